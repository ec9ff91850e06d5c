"""Reads configurations: inline or from YAML files, with paths relative to those files."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from serve.config.app import AppConfig
from serve.config.faults import ConfigError, faults_of, wrong
from serve.config.server import KeyConfig

DEFAULT_CONFIG = Path(__file__).parents[2] / "ops" / "demo" / "llms.yaml"


def load_config(args: dict[str, Any]) -> AppConfig:
    """Reads a configuration: inline, or from the YAML file that `config` names.

    Paths are relative to that file, or to the working directory: those of a `model`, an adapter or
    a history if they start with "./" or "../", and those of a keys file or a SQLite file.

    Raises:
        ConfigError: with the path of every wrong key.
    """
    try:
        return AppConfig.model_validate(read_config(args))
    except ValidationError as error:
        raise ConfigError(wrong("the configuration", faults_of(error))) from None


def read_config(args: dict[str, Any]) -> dict[str, Any]:
    """What `load_config` reads, before it is checked.

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
    return _with_absolute_paths(args, base)


def load_keys(file: str) -> list[KeyConfig]:
    """Reads a keys file: a list of keys, each by its hash.

    Raises:
        ConfigError: with the path of every wrong key.
    """
    content = read_yaml(Path(file), "keys")
    try:
        keys = TypeAdapter(list[KeyConfig]).validate_python(content)
    except ValidationError as error:
        raise ConfigError(wrong(f"the keys file {file}", faults_of(error))) from None
    if not keys or any(key.sha256 is None for key in keys):
        raise ConfigError(f"the keys file {file} must hold a list of keys, each with its sha256")
    return keys


def _read(path: Path) -> dict[str, Any]:
    content = read_yaml(path, "configuration")
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} is not a configuration: it must be a mapping with the key `llms`"
        )
    return content


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML file, in which no key may be given twice.

    Raises:
        ConfigError: there is no such file, or it isn't YAML; the message calls it `what`.
    """
    try:
        return yaml.load(path.read_text("utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(f"there is no {what} file {path}") from None
    except yaml.MarkedYAMLError as error:
        # Not the whole error, which quotes the line: it may hold a key.
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
    """YAML in which a duplicate key is an error; PyYAML would drop the first one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key.value, str) and key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return super().construct_mapping(node, deep)


def _with_absolute_paths(args: dict[str, Any], base: Path) -> dict[str, Any]:
    """`args` with absolute paths. What has the wrong shape is left as it is, for validation to
    refuse."""
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
