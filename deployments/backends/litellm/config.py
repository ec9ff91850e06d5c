"""The configuration of a model of any provider that LiteLLM knows."""

from typing import ClassVar

from pydantic import ValidationInfo, field_validator

from deployments.backends.litellm.catalogue import thinks_unasked
from deployments.config import THINKING_S, Capability, HostedConfig

# LiteLLM's `ollama` writes tools and messages into one prompt; `ollama_chat` is Ollama's chat API.
_LITELLM_NAMES = {"google": "gemini", "ollama": "ollama_chat"}


class LiteLLMConfig(HostedConfig):
    """A model of any provider that LiteLLM knows; `backend` is the provider's name there.

    `service_tiers` are the tiers that callers may choose, at the operator's expense.
    """

    DEFAULT_CAPABILITIES: ClassVar[frozenset[Capability]] = frozenset({"tools", "json", "images"})

    service_tiers: tuple[str, ...] = ()

    # Looked up here, once, so that the router and the replicas go by the same limit.
    @field_validator("thinking_timeout")
    @classmethod
    def _reasoners_may_think(cls, seconds: float | None, info: ValidationInfo) -> float | None:
        backend, model = info.data.get("backend"), info.data.get("model") or info.data.get("name")
        if seconds is None and backend and model and thinks_unasked(backend, model):
            return THINKING_S
        return seconds

    @property
    def provider(self) -> str:
        """The provider's name at LiteLLM."""
        return _LITELLM_NAMES.get(self.backend, self.backend)

    @property
    def litellm_model(self) -> str:
        """`provider/model` as LiteLLM wants it, its prefix not doubled."""
        prefixes = [f"{name}/" for name in (self.backend, self.provider)]
        name = self.provider_model
        prefix = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
        return f"{self.provider}/{name.removeprefix(prefix)}"

    @property
    def identity(self) -> str:
        return self.litellm_model
