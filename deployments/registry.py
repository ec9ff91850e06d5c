"""The registry of backends: one row each, and the only place that lists them."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from deployments.backends.litellm.catalogue import ALIASES, providers
from deployments.contract import Backend

if TYPE_CHECKING:
    from deployments.config import ModelConfig


@dataclass(frozen=True)
class Kind:
    """A row of the registry. Classes and functions are written as "module:name" and imported when
    they are needed: a config when the configuration is read, a backend only inside the replica.

    Attributes:
        names: the values of the key `backend` that select this kind.
        config: the class of its models' configuration.
        backend: the class that answers; its only argument is the config.
        deployment: instead of `backend`, for replicas that are not ours: a function that makes a
            Serve application from a config and deployment options.
        elsewhere: whether its models run on the server that `hostname` names; this distinguishes
            kinds that share a name.
        shared: the name of the deployment that its hosted models share, if they do.
        embeds: whether the backend is an `Embedder`, too.
        listed: a function that looks up public prices and context windows of its models, if any.
    """

    names: tuple[str, ...]
    config: str
    backend: str = ""
    deployment: str = ""
    elsewhere: bool = False
    shared: str = ""
    embeds: bool = False
    listed: str = ""


_ROOMS = "deployments.backends"
_OTHERS = "litellm"

KINDS: Mapping[str, Kind] = {
    "endpoint": Kind(
        names=("vllm", "sglang"),
        config=f"{_ROOMS}.openai_endpoint.config:EndpointConfig",
        backend=f"{_ROOMS}.openai_endpoint.backend:OpenAIBackend",
        elsewhere=True,
        shared="Endpoints",
        embeds=True,
    ),
    "engine": Kind(
        names=("vllm",),
        config=f"{_ROOMS}.vllm.config:EngineConfig",
        deployment=f"{_ROOMS}.vllm.replica:deploy_engine",
    ),
    "huggingface": Kind(
        names=("huggingface", "hflocal"),
        config=f"{_ROOMS}.huggingface.config:HuggingFaceConfig",
        backend=f"{_ROOMS}.huggingface.backend:HuggingFaceBackend",
    ),
    "simulated": Kind(
        names=("simulated",),
        config=f"{_ROOMS}.simulated.config:SimulatedConfig",
        backend=f"{_ROOMS}.simulated.backend:SimulatedBackend",
    ),
    # Any other name is a provider's.
    _OTHERS: Kind(
        names=(),
        config=f"{_ROOMS}.litellm.config:LiteLLMConfig",
        backend=f"{_ROOMS}.litellm.backend:LiteLLMBackend",
        shared="LiteLLM",
        embeds=True,
        listed=f"{_ROOMS}.litellm.catalogue:listed",
    ),
}

SHARED = {kind.shared for kind in KINDS.values() if kind.shared}
"""The names of the deployments that hosted models share."""


def kind_of(model: Any) -> str:
    """The name of the row for a model, given its config, parsed or as written."""

    def field(name: str) -> Any:
        return model.get(name) if isinstance(model, Mapping) else getattr(model, name, None)

    kinds = [name for name, kind in KINDS.items() if field("backend") in kind.names]
    if len(kinds) > 1:
        elsewhere = field("hostname") is not None
        kinds = [name for name in kinds if KINDS[name].elsewhere == elsewhere]
    return kinds[0] if kinds else _OTHERS


def row_of(model: Any) -> Kind:
    """The row for a model, given its config, parsed or as written."""
    return KINDS[kind_of(model)]


def parse(model: Any) -> "ModelConfig":
    """The config of one model, from what is written in the configuration.

    Raises:
        ValidationError: it is wrong.
    """
    config: ModelConfig = named(row_of(model).config).model_validate(model)
    return config


def load(config: "ModelConfig") -> Backend:
    """Makes the backend for a config: imports its libraries, so call it inside the replica.

    Raises:
        ValueError: one of them is not installed.
    """
    if missing := config.missing_library:
        raise ValueError(f"model '{config.name}': backend '{config.backend}' {missing}")
    backend: Backend = named(row_of(config).backend)(config)
    return backend


def listed(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The public entry for a model, with prices and its context window; empty if there is none, as
    for models that people run themselves.

    Args:
        model: its config as it is written; `name` is enough.
    """
    path = row_of(model).listed
    if not path:
        return {}
    entry: Mapping[str, Any] = named(path)(
        model.get("backend"), str(model.get("model") or model.get("name"))
    )
    return entry


def unknown_backend(backend: str) -> str | None:
    """The error for a value of the key `backend` that selects nothing; None if it selects a
    backend, or if LiteLLM's providers can't be listed here."""
    own = {name for kind in KINDS.values() for name in kind.names}
    known = {*own, *ALIASES, *providers()}
    if backend in known or not providers():
        return None
    near = get_close_matches(backend.lower(), sorted(known), 1)
    hint = (
        f"did you mean '{near[0]}'?"
        if near
        else f"it is one of {', '.join(sorted(own))} or a provider in "
        "https://docs.litellm.ai/docs/providers"
    )
    return f"unknown backend '{backend}'; {hint}"


def named(path: str) -> Any:
    """Imports what "module:name" stands for.

    Raises:
        ImportError: a library that it needs is not installed.
    """
    module, name = path.split(":")
    return getattr(import_module(module), name)
