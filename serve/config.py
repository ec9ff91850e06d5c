"""The configuration of the application: its models and its router, checked before it starts."""

from functools import reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from deployments.config import Autoscaling, ModelConfig
from deployments.registry import KINDS, kind_of

if TYPE_CHECKING:
    AnyModel = ModelConfig
else:
    _rows = tuple(Annotated[kind.config, Tag(name)] for name, kind in KINDS.items())
    AnyModel = Annotated[reduce(or_, _rows), Discriminator(kind_of)]


class ConfigError(ValueError):
    """The configuration can't be served; the message says where and why."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RouterConfig(_Section):
    """How requests are routed. What stands here changes without a restart."""

    strategy: Literal["sequential"] = "sequential"


# A router waits for models, so it takes many requests at once.
_ROUTER_AUTOSCALING: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": 4,
    "target_ongoing_requests": 100,
}


class ServerConfig(_Section):
    """The HTTP ingress. `max_body_bytes` bounds a request's body."""

    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * 2**20
    autoscaling: Autoscaling = Autoscaling(**_ROUTER_AUTOSCALING)

    @field_validator("autoscaling", mode="before")
    @classmethod
    def _over_our_defaults(cls, autoscaling: Any) -> Any:
        if not isinstance(autoscaling, dict):
            return autoscaling
        return {**_ROUTER_AUTOSCALING, **autoscaling}


class LLMs(_Section):
    """AIOS's `llms:` section. Its keys without a meaning here are taken at the one value that
    says what is done here; any other value is refused."""

    models: Annotated[list[AnyModel], Field(min_length=1)]
    router: RouterConfig = RouterConfig()
    log_mode: Literal["console"] = "console"
    use_context_manager: Literal[False] = False

    @model_validator(mode="after")
    def _names_are_sound(self) -> "LLMs":
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two models are called '{name}'; give each a name of its own")
        for model in self.models:
            for fallback in model.fallbacks:
                if fallback not in names or fallback == model.name:
                    raise ValueError(
                        f"fallback '{fallback}' of model '{model.name}' is no other model here"
                    )
        return self


class AppConfig(_Section):
    """The whole configuration."""

    llms: LLMs
    server: ServerConfig = ServerConfig()


def load_config(args: dict[str, Any]) -> AppConfig:
    """Reads a configuration: inline, or from the YAML file that `config` names.

    A `model` that starts with "./" or "../" is a folder beside that file (inline: beside the
    working directory).

    Raises:
        ConfigError: with the path of every key at fault.
    """
    base = Path.cwd()
    if "config" in args:
        if len(args) > 1:
            raise ConfigError("args: give either `config` or the configuration itself, not both")
        if not isinstance(args["config"], str):
            raise ConfigError("args.config: give the path of a YAML file")
        path = Path(args["config"]).resolve()
        base, args = path.parent, _read(path)
    try:
        return AppConfig.model_validate(_with_folders(args, base))
    except ValidationError as error:
        raise ConfigError(_explain(error)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text("utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {path}") from None
    except yaml.MarkedYAMLError as error:
        # Not the whole error: it quotes the line, and a key may stand there.
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{path} is no YAML: line {line}: {error.problem}") from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path} can't be read: {type(error).__name__}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no configuration; it begins with `llms:`")
    return content


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error, instead of the first one being lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key.value, str) and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return super().construct_mapping(node, deep)


def _with_folders(args: dict[str, Any], base: Path) -> dict[str, Any]:
    """`args` with the relative model folders made absolute."""
    llms = args.get("llms")
    if not isinstance(llms, dict) or not isinstance(llms.get("models"), list):
        return args

    def resolved(model: Any) -> Any:
        folder = model.get("model") if isinstance(model, dict) else None
        if isinstance(folder, str) and folder.startswith(("./", "../")):
            return {**model, "model": str((base / folder).resolve())}
        return model

    return {**args, "llms": {**llms, "models": [resolved(model) for model in llms["models"]]}}


def _without_tag(loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The place of a fault less the name of the model's kind, which is no key of the user's."""
    return loc[:3] + loc[4:] if loc[:2] == ("llms", "models") and loc[3:4] else loc


def _explain(error: ValidationError) -> str:
    """One line for each fault: the path of the key and what is wrong. Never the value: it may be
    a secret written in the wrong place."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in _without_tag(fault["loc"]))
        reason = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            reason = "unknown key"
        elif fault["type"] == "missing":
            reason = "missing"
        lines.append(f"{path or 'configuration'}: {reason}")
    return "the configuration is wrong:\n  " + "\n  ".join(lines)
