"""The configuration of a model of any provider that LiteLLM knows."""

from typing import ClassVar

from pydantic import ValidationInfo, field_validator

from deployments.backends.litellm.catalogue import ALIASES, thinks_unasked
from deployments.backends.litellm.provider_libraries import missing_library
from deployments.config import THINKING_S, Capability, HostedConfig

# LiteLLM's `ollama` writes tools and messages into one prompt; `ollama_chat` is Ollama's chat API.
_CHAT_APIS = {"ollama": "ollama_chat"}
# Providers that have Claude beside other models.
_CLAUDE_TOO = frozenset({"azure_ai", "bedrock", "vertex_ai"})


class LiteLLMConfig(HostedConfig):
    """A model of any provider that LiteLLM supports."""

    DEFAULT_CAPABILITIES: ClassVar[frozenset[Capability]] = frozenset({"tools", "json", "images"})

    service_tiers: tuple[str, ...] = ()
    """The provider's tiers that callers may choose by `service_tier`, at your expense, such as
    `[flex, priority]`."""

    # Looked up once, so that the router and the replicas apply the same limit.
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
        name = ALIASES.get(self.backend, self.backend)
        return name if self.embeds else _CHAT_APIS.get(name, name)

    @property
    def provider_model(self) -> str:
        name = super().provider_model
        prefixes = (f"{prefix}/" for prefix in (self.backend, self.provider))
        return name.removeprefix(next(filter(name.startswith, prefixes), ""))

    @property
    def litellm_model(self) -> str:
        """`provider/model` as LiteLLM wants it."""
        return f"{self.provider}/{self.provider_model}"

    @property
    def is_claude(self) -> bool:
        """Whether it takes what only Anthropic's models do, such as thinking with a signature."""
        elsewhere = self.provider in _CLAUDE_TOO and "claude" in self.provider_model
        return self.provider == "anthropic" or elsewhere

    @property
    def identity(self) -> str:
        return self.litellm_model

    @property
    def missing_library(self) -> str | None:
        return missing_library(
            self.provider,
            self.provider_model,
            hostname=self.hostname,
            has_key=self.api_key is not None,
        )
