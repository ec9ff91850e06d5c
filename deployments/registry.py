"""The backends there are: for each, its config and the class that answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from deployments.backends.huggingface.config import HuggingFaceConfig
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.backends.vllm.config import EngineConfig
from deployments.config import ModelConfig
from deployments.contract import Backend


@dataclass(frozen=True)
class Kind:
    """One row of the registry.

    `backend` is "module:Class", imported inside the replica only. A kind whose replicas are not
    ours has `deployment` instead: "module:function", which makes it of a config and options.
    """

    config: type[ModelConfig]
    backend: str = ""
    deployment: str = ""


_BACKENDS = "deployments.backends"

KINDS: Mapping[str, Kind] = {
    "litellm": Kind(LiteLLMConfig, f"{_BACKENDS}.litellm.backend:LiteLLMBackend"),
    "endpoint": Kind(EndpointConfig, f"{_BACKENDS}.openai_endpoint.backend:OpenAIBackend"),
    "huggingface": Kind(HuggingFaceConfig, f"{_BACKENDS}.huggingface.backend:HuggingFaceBackend"),
    "engine": Kind(EngineConfig, deployment=f"{_BACKENDS}.vllm.replica:deploy_engine"),
}

# The values of the key `backend` that are not a provider of LiteLLM's.
_OWN = {
    "vllm": "endpoint",
    "sglang": "endpoint",
    "huggingface": "huggingface",
    "hflocal": "huggingface",
}


def kind_of(raw: Any) -> str:
    """The row for a model's config, raw or parsed; every other name is a provider of LiteLLM's."""

    def field(name: str) -> Any:
        return raw.get(name) if isinstance(raw, dict) else getattr(raw, name, None)

    if field("backend") == "vllm" and field("hostname") is None:
        return "engine"
    return _OWN.get(str(field("backend")), "litellm")


def load(config: ModelConfig) -> Backend:
    """Makes the backend for a config: wakes its libraries, so call it inside the replica."""
    backend: Backend = named(KINDS[kind_of(config)].backend)(config)
    return backend


def named(path: str) -> Any:
    """What "module:name" means; imports the module.

    Raises:
        ImportError: a library that it needs is not there.
    """
    module, name = path.split(":")
    return getattr(import_module(module), name)
