"""What a load test drives: a running service, or an application that is served for it."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from textwrap import shorten
from typing import Any
from urllib.parse import urlsplit

import ray

from deployments.config import HostedConfig, ModelConfig
from ops.bench.application import running
from ops.load.cluster import growing
from ops.local.serving import LOOPBACK
from ops.ports import free_port
from serve.access.exposure import is_loopback
from serve.config import ConfigError, read_config
from serve.preflight import checked_here

_ONLY_IF_WANTED = (
    "a load test may overload what answers there, and its answers may cost money; if that is "
    "wanted, add --remote (REMOTE=1)"
)
_MAX_NAMES_CHARACTERS = 200

Json = dict[str, Any]


def checked_url(url: str, remote: bool) -> str:
    """The URL of a service, without "/v1".

    Args:
        url: as it was given.
        remote: whether it may be another machine's.

    Raises:
        ConfigError: it may not be driven, or is no URL. The message doesn't repeat it, since it may
            hold a secret.
    """
    try:
        parts = urlsplit(url)
        complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        complete = False
    if not complete or set(url) & set("@?#"):
        raise ConfigError(
            "--url must be like http://localhost:8000, without a user, password, query or fragment "
            "(the service's key is read from an environment variable, see --key-variable)"
        )
    host = parts.hostname or ""
    if not remote and not is_loopback(host):
        raise ConfigError(f"{host} is another machine: {_ONLY_IF_WANTED}")
    return url.rstrip("/").removesuffix("/v1")


def checked_config(file: str, remote: bool) -> Json:
    """The configuration of an application that can be served here, as it was read.

    Args:
        file: a YAML file.
        remote: whether its models may be on other machines.

    Raises:
        ConfigError: with everything that would fail here, or the models that may not be asked.
    """
    args = {"config": file}
    models = checked_here(args, LOOPBACK, free_port()).llms.models
    elsewhere = ", ".join(model.name for model in models if _is_elsewhere(model))
    if elsewhere and not remote:
        names = shorten(elsewhere, _MAX_NAMES_CHARACTERS, placeholder=" …")
        raise ConfigError(f"models on other machines: {names}: {_ONLY_IF_WANTED}")
    return read_config(args)


def _is_elsewhere(model: ModelConfig) -> bool:
    if not isinstance(model, HostedConfig):
        return False
    # Without a hostname it is the provider's own.
    return not model.hostname or not is_loopback(urlsplit(model.hostname).hostname or "")


def served(file: str, config: Json | None) -> Json:
    """What `run.json` says of what was served.

    Args:
        file: the configuration's path.
        config: its content, in which secrets are only named; None for a service that ran.

    Returns:
        `config` (the path) and `digest` (SHA-256 of the content), both None for a service that ran,
        and the `version` of this package and of `ray` here.
    """
    return {
        "config": None if config is None else file,
        "digest": None if config is None else _digest(config),
        "version": version("llm-cores-on-ray-serve"),
        "ray": ray.__version__,
    }


def _digest(config: Json) -> str:
    return hashlib.sha256(json.dumps(config).encode()).hexdigest()


@contextmanager
def serving(config: Json, log: Path, *, growing_cluster: bool) -> Iterator[str]:
    """Serves an application on a free port, on this machine or on a cluster that grows; yields its
    URL.

    Args:
        config: as of `checked_config`.
        log: a file for what it prints.
        growing_cluster: whether its nodes come and go.

    Raises:
        RuntimeError: it did not start; `log` says why.
    """
    print(f"starting the application; its log is {log}", flush=True)
    serve = growing if growing_cluster else running
    with serve(config, log) as url:
        yield url
