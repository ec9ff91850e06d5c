"""The whole configuration: the models, their routing, and the server."""

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationInfo, field_validator, model_validator

from deployments.config import Autoscaling, ModelConfig, ScaledByRequests
from deployments.registry import parse
from serve.config.router import RouterConfig
from serve.config.section import Section, over
from serve.config.server import ServerConfig, check_keys
from serve.config.store import StoreConfig, default_store

AnyModel = Annotated[ModelConfig, PlainValidator(parse)]


_SHARED_AUTOSCALING: dict[str, Any] = {
    "min_replicas": 1,
    "max_replicas": 4,
    "target_ongoing_requests": 100,
}


class HostedModels(Section):
    """What hosted models share: one deployment for those that LiteLLM calls, one for vLLM and
    SGLang servers."""

    in_router: bool = False
    """Whether the router calls their providers itself, without these deployments. That takes about
    half the CPU time. But a library that fails or blocks then does so in the router, and
    `server.autoscaling` scales both together."""
    autoscaling: Annotated[ScaledByRequests, over(_SHARED_AUTOSCALING)] = Autoscaling(
        **_SHARED_AUTOSCALING
    )
    """How many replicas each of these deployments has."""

    @model_validator(mode="after")
    def _router_scales_them(self) -> "HostedModels":
        if self.in_router and "autoscaling" in self.model_fields_set:
            raise ValueError(
                "autoscaling has no effect with `in_router: true`; `server.autoscaling` scales the "
                "router and with it these models"
            )
        return self


class LLMs(Section):
    """AIOS's `llms:` section. Keys that have no effect here are accepted with the one value that
    describes what happens here; any other value is refused."""

    models: Annotated[list[AnyModel], Field(min_length=1)]
    """The models."""
    router: RouterConfig = RouterConfig()
    """How requests are routed."""
    hosted: HostedModels = HostedModels()
    """What the hosted models without a deployment of their own share."""
    store: Annotated[StoreConfig | None, Field(validate_default=True)] = None
    """Where smart routing keeps past queries. Created by default if the strategy is `smart` or
    `cascade`."""
    log_mode: Literal["console"] = "console"
    """A key of AIOS; only this value is accepted."""
    use_context_manager: Literal[False] = False
    """A key of AIOS; only this value is accepted."""

    @field_validator("store", mode="before")
    @classmethod
    def _strategy_has_its_store(cls, store: Any, info: ValidationInfo) -> Any:
        return default_store(info.data.get("router")) if store is None else store

    @property
    def served(self) -> list[ModelConfig]:
        """What requests can ask for: the models, each followed by its adapters."""
        return [served for model in self.models for served in model.served]

    @property
    def names(self) -> list[str]:
        """What requests can name: the models, and the embedder of the store."""
        own = [] if self.store is None else [self.store.embedder_name]
        return [*(model.name for model in self.served), *own]

    @model_validator(mode="after")
    def _names_are_valid(self) -> "LLMs":
        names = self.names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two models are called '{name}'; rename one")
        answering = {model.name for model in self.served if not model.embeds}
        for model in self.models:
            for fallback in model.fallbacks:
                if fallback not in answering or fallback == model.name:
                    raise ValueError(
                        f"fallback '{fallback}' of model '{model.name}' must be another model in "
                        "`llms.models` that answers"
                    )
        if self.router.scoring is not None:
            self.router.scoring.check(answering, has_store=self.store is not None)
        return self


class AppConfig(Section):
    """The whole configuration."""

    llms: LLMs
    """The models and how requests are routed."""
    server: ServerConfig = ServerConfig()
    """The HTTP ingress."""

    @model_validator(mode="after")
    def _keys_are_valid(self) -> "AppConfig":
        check_keys(self.server.keys, self.llms.names)
        return self
