"""The configuration of the application: its models and its router, checked before it starts."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from deployments.config import Autoscaling, ModelConfig
from deployments.embedding.encoder import DEFAULT_MODEL
from deployments.registry import parse
from serve.smart.queries import QueryChoice

AnyModel = Annotated[ModelConfig, PlainValidator(parse)]

DEFAULT_CONFIG = Path(__file__).parent.parent / "ops" / "demo" / "llms.yaml"

Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# As a browser sends it: no path, no slash at the end.
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s@]+)$")]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class ConfigError(ValueError):
    """The configuration can't be served; the message says where and why."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class RouterConfig(_Section):
    """How requests are routed. These settings change without a restart."""

    strategy: Literal["sequential", "smart"] = "sequential"
    """How a model is chosen, unless the request says otherwise."""
    performance_requirement: Annotated[float, Field(ge=0, le=1)] = 0.7
    """The mean quality that smart routing holds."""
    n_similar: Annotated[int, Field(ge=1, le=10_000)] = 16
    """The fewest past queries to predict from. As the store grows, up to 256 are used."""
    query: QueryChoice = "last_user_message"
    """The text of a conversation that is compared with past queries: the last message of the user
    (as in AIOS), all of the user's messages, or everything. Of the last two, the end is used."""
    show_queries: bool = False
    """Whether `/v1/route` shows the past queries that are most like each query."""


class Settings(_Section):
    """What router replicas take without a restart: Ray Serve's `user_config`."""

    router: RouterConfig = RouterConfig()
    """Any of the keys of `llms.router`; the others stay as configured."""
    prices: dict[str, tuple[Cost, Cost]] = {}
    """USD for one token of the prompt and of the answer, of the models whose price has changed."""

    @classmethod
    def over(cls, configured: RouterConfig, user_config: Any) -> "Settings":
        """Settings from a `user_config`, with the configured values for whatever it leaves out.

        Raises:
            ValidationError: it is wrong.
        """
        settings = cls.model_validate(user_config)
        given = settings.router.model_dump(include=settings.router.model_fields_set)
        return settings.model_copy(update={"router": configured.model_copy(update=given)})


class StoreConfig(_Section):
    """Where smart routing keeps past queries, and how many of them."""

    url: str | None = None
    """`sqlite:///file` on a local disk, or `postgresql://…` for a cluster. A password or the whole
    URL is written as `${NAME}`, an environment variable; a user, password or name from a
    variable is percent-encoded. By default a SQLite file of the user's, in `~/.local/state`."""
    history: tuple[str, ...] = ()
    """Files of past outcomes, taken in once, when the store starts."""
    embedding_model: str = DEFAULT_MODEL
    """A sentence-transformers name or a folder. The default is installed with the package."""
    most_queries: Annotated[int, Field(ge=1)] = 1_000_000
    """The most past queries that are kept. Those without a score go first, except the newest
    tenth."""
    # Feedback may come for two days.
    most_days: Annotated[float, Field(ge=2)] | None = None
    """How many days a query is kept after it was last asked; at least two, since feedback may come
    for two days. By default for ever."""
    embedder: Autoscaling = Autoscaling(min_replicas=1, max_replicas=4)
    """How many replicas the embedder has."""

    @field_validator("embedder", mode="before")
    @classmethod
    def _over_our_defaults(cls, autoscaling: Any) -> Any:
        if not isinstance(autoscaling, dict):
            return autoscaling
        return {"min_replicas": 1, "max_replicas": 4, **autoscaling}

    @field_validator("history", mode="before")
    @classmethod
    def _one_file_or_more(cls, history: Any) -> Any:
        return [history] if isinstance(history, str) else history

    @field_validator("history")
    @classmethod
    def _names_of_their_own(cls, history: tuple[str, ...]) -> tuple[str, ...]:
        stems = [Path(file).stem for file in history]
        if len(set(stems)) < len(stems):
            raise ValueError("two histories have one name; what they say is kept by their names")
        return history

    @field_validator("url")
    @classmethod
    def _a_url_without_secrets(cls, url: str | None) -> str | None:
        if url is not None:
            from deployments.store.sql.urls import check_configured

            check_configured(url)
        return url

    def resolved_url(self) -> str:
        """The URL with its references resolved; the default one where none is given.

        Raises:
            ValueError: an environment variable is not set.
        """
        from deployments.store.sql.urls import default_url, resolved

        return default_url() if self.url is None else resolved(self.url)


# A router waits for models, so it takes many requests at once.
_ROUTER_AUTOSCALING: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": 4,
    "target_ongoing_requests": 100,
}


class KeyConfig(_Section):
    """Who may call: the key itself by reference, or only its hash."""

    name: Annotated[str, Field(max_length=100, pattern=r"^[!-~]([ -~]*[!-~])?$")]
    """What the key is called. Printable ASCII."""
    key: str | None = None
    """The environment variable of the router's replicas that holds the key, as `${NAME}`. Give
    this or `sha256`."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    """The key's SHA-256 in hexadecimal digits, as `python -m ops.keys` shows it."""
    models: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The models that the key may use. By default all."""
    requests_per_minute: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """How many requests the key may make in a minute, counted over all router replicas. By default
    any number."""

    @field_validator("key")
    @classmethod
    def _key_is_a_reference(cls, key: str | None) -> str | None:
        if key is not None and not _REFERENCE.fullmatch(key):
            # The message must not repeat the value: it may be a real key.
            raise ValueError(
                "a key is not written into the config; put it into an environment variable of the "
                "replicas and write its name: key: ${MY_KEY}; or give its sha256"
            )
        return key

    @model_validator(mode="after")
    def _one_of_the_two(self) -> "KeyConfig":
        if (self.key is None) == (self.sha256 is None):
            raise ValueError("give either `key: ${MY_KEY}` or `sha256`")
        return self


class ServerConfig(_Section):
    """The HTTP ingress."""

    keys: tuple[KeyConfig, ...] = ()
    """Who may call. Without any, only this machine may."""
    keys_file: str | None = None
    """A YAML file with more keys, by their hashes."""
    allow_anonymous: bool = False
    """Whether other machines may call without a key."""
    cors_origins: tuple[Origin, ...] = ()
    """Web pages that may read answers, such as `https://console.example`. By default none."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * 2**20
    """The largest body of a request; a larger one is refused with 413."""
    max_total_body_bytes: Annotated[int, Field(ge=1024)] = 256 * 2**20
    """The bodies of all requests in progress together, in each router replica; beyond it 429."""
    body_timeout: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """Seconds that a body may take to arrive."""
    request_timeout: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    """Seconds that a request may take with all its attempts."""
    max_concurrent_requests: Annotated[int, Field(ge=1, le=5000)] = 1000
    """Requests in progress in each router replica; beyond it 429."""
    autoscaling: Autoscaling = Autoscaling(**_ROUTER_AUTOSCALING)
    """How many replicas the router has."""

    @property
    def asks_for_keys(self) -> bool:
        """Whether only those who have a key may call."""
        return bool(self.keys) or self.keys_file is not None

    @model_validator(mode="after")
    def _keys_or_none(self) -> "ServerConfig":
        if self.allow_anonymous and self.asks_for_keys:
            raise ValueError("`allow_anonymous` and keys exclude each other")
        return self

    @field_validator("autoscaling", mode="before")
    @classmethod
    def _over_our_defaults(cls, autoscaling: Any) -> Any:
        if not isinstance(autoscaling, dict):
            return autoscaling
        return {**_ROUTER_AUTOSCALING, **autoscaling}


class LLMs(_Section):
    """AIOS's `llms:` section. Its keys that mean nothing here are accepted at the one value that
    describes what is done here; any other value is refused."""

    models: Annotated[list[AnyModel], Field(min_length=1)]
    """The models."""
    router: RouterConfig = RouterConfig()
    """How requests are routed."""
    store: StoreConfig | None = None
    """Where smart routing keeps past queries; there by default if the strategy is `smart`."""
    log_mode: Literal["console"] = "console"
    """AIOS's; only this value."""
    use_context_manager: Literal[False] = False
    """AIOS's; only this value."""

    @model_validator(mode="before")
    @classmethod
    def _smart_routing_has_a_store(cls, llms: Any) -> Any:
        return with_store(llms)

    @property
    def served(self) -> list[ModelConfig]:
        """What requests can ask for: the models, each followed by its adapters."""
        return [served for model in self.models for served in model.served]

    @model_validator(mode="after")
    def _names_are_sound(self) -> "LLMs":
        names = [model.name for model in self.served]
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


def with_store(llms: Any) -> Any:
    """The section `llms` as it is written, with the store that smart routing needs."""
    if not isinstance(llms, dict) or llms.get("store") is not None:
        return llms
    router = llms.get("router")
    smart = isinstance(router, dict) and router.get("strategy") == "smart"
    return {**llms, "store": {}} if smart else llms


class AppConfig(_Section):
    """The whole configuration."""

    llms: LLMs
    """The models and how requests are routed."""
    server: ServerConfig = ServerConfig()
    """The HTTP ingress."""

    @model_validator(mode="after")
    def _keys_are_sound(self) -> "AppConfig":
        check_keys(self.server.keys, [model.name for model in self.llms.served])
        return self


def check_keys(keys: Sequence[KeyConfig], models: Collection[str]) -> None:
    """Raises ValueError where two have one name, or one may ask for what isn't among `models`."""
    names = [key.name for key in keys]
    for key in keys:
        if names.count(key.name) > 1:
            raise ValueError(f"server.keys: two are called '{key.name}'; give each a name")
        if unknown := set(key.models or ()).difference(models):
            raise ValueError(f"server.keys: '{key.name}': there is no model '{min(unknown)}'")


def load_config(args: dict[str, Any]) -> AppConfig:
    """Reads a configuration: inline, or from the YAML file that `config` names.

    A `model`, an adapter or a history of the store that starts with "./" or "../" lies beside that
    file (inline: beside the working directory); so does a SQLite or keys file with a relative path.

    Raises:
        ConfigError: with the path of every key at fault.
    """
    try:
        return AppConfig.model_validate(read_config(args))
    except ValidationError as error:
        raise ConfigError(wrong("the configuration", faults_of(error))) from None


def read_config(args: dict[str, Any]) -> dict[str, Any]:
    """What `load_config` reads, not yet checked.

    Raises:
        ConfigError: there is no such file, or it can't be read.
    """
    base = Path.cwd()
    if "config" in args:
        if len(args) > 1:
            raise ConfigError("args: give either `config` or the configuration itself, not both")
        if not isinstance(args["config"], str):
            raise ConfigError("args.config: give the path of a YAML file")
        path = Path(args["config"]).resolve()
        base, args = path.parent, _read(path)
    return _with_folders(args, base)


def load_keys(file: str) -> list[KeyConfig]:
    """Reads a keys file: a list of keys, each by its hash.

    Raises:
        ConfigError: with the path of every key at fault.
    """
    content = _read_yaml(Path(file), "keys")
    try:
        keys = TypeAdapter(list[KeyConfig]).validate_python(content)
    except ValidationError as error:
        raise ConfigError(wrong(f"the keys file {file}", faults_of(error))) from None
    if not keys or any(key.sha256 is None for key in keys):
        raise ConfigError(f"the keys file {file} holds a list of keys, each by its sha256")
    return keys


def _read(path: Path) -> dict[str, Any]:
    content = _read_yaml(path, "configuration")
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no configuration; it begins with `llms:`")
    return content


def _read_yaml(path: Path, what: str) -> Any:
    try:
        return yaml.load(path.read_text("utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"there is no {what} file {path}") from None
    except yaml.MarkedYAMLError as error:
        # Not the whole error: it quotes the line, and a key may stand there.
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        reason = f"{path} is not valid YAML: line {line}: {error.problem}{_yaml_hint(error)}"
        raise ConfigError(reason) from None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path} can't be read: {type(error).__name__}") from None


def _yaml_hint(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or ""
    if r"'\t'" in problem:
        return "; indent with spaces, not with tabs"
    if "<block end>" in problem or "mapping values" in problem:
        return "; is the line indented like its neighbours?"
    return ""


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error, instead of the first one being lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return super().construct_mapping(node, deep)


def _with_folders(args: dict[str, Any], base: Path) -> dict[str, Any]:
    """`args` with relative paths made absolute. What is not of the right shape stays as it is, to
    be refused where its shape is checked."""
    server = args.get("server")
    if isinstance(server, dict) and isinstance(server.get("keys_file"), str):
        args = {**args, "server": {**server, "keys_file": str(base / server["keys_file"])}}
    llms = args.get("llms")
    if not isinstance(llms, dict):
        return args

    def resolved(path: Any) -> Any:
        relative = isinstance(path, str) and path.startswith(("./", "../"))
        return str((base / path).resolve()) if relative else path

    def model_resolved(model: Any) -> Any:
        if not isinstance(model, dict):
            return model
        model = dict(model)
        if "model" in model:
            model["model"] = resolved(model["model"])
        if isinstance(model.get("adapters"), dict):
            model["adapters"] = {name: resolved(at) for name, at in model["adapters"].items()}
        return model

    llms = dict(llms)
    if isinstance(llms.get("models"), list):
        llms["models"] = [model_resolved(model) for model in llms["models"]]
    if isinstance(llms.get("store"), dict):
        llms["store"] = store = dict(llms["store"])
        if isinstance(store.get("history"), list | tuple):
            store["history"] = [resolved(path) for path in store["history"]]
        elif "history" in store:
            store["history"] = resolved(store["history"])
        if isinstance(store.get("url"), str):
            from deployments.store.sql.urls import beside

            store["url"] = beside(base, store["url"])
    return {**args, "llms": llms}


_KEYS = "must hold keys, indented below it: `key: value`"
_LIST = "must be a list: `[a, b]`, or a line that begins with `- ` for each item"
# What Pydantic says in terms of Python, by its name for the fault.
_REASONS = {
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "dict_type": _KEYS,
    "model_type": _KEYS,
    "model_attributes_type": _KEYS,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "string_type": "must be text; write it in quotes",
    "too_short": "must not be empty",
}


def faults_of(error: ValidationError) -> list[str]:
    """One line for each fault: the path of the key and what is wrong. Never the value: it may be a
    secret written in the wrong place."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in fault["loc"])
        reason = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        reason = _REASONS.get(fault["type"], reason)
        # A fault of several keys together says itself where it is.
        lines.append(f"{path}: {reason}" if path else reason)
    return lines


def wrong(what: str, faults: Sequence[str]) -> str:
    """The message that tells all faults of `what`."""
    return "\n  ".join([f"{what} is wrong:", *faults])
