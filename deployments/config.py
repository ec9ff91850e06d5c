"""The configuration of one model: AIOS's keys and ours, checked before anything starts."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_serializer,
    field_validator,
    model_validator,
)
from ray.serve.config import AutoscalingConfig

from deployments.secrets import Secret

Capability = Literal["tools", "json", "images"]
Task = Literal["chat", "embedding"]

LONGEST_NAME = 200
# The default `thinking_timeout` of models that think.
THINKING_S = 120.0


class SLO(BaseModel):
    """What a model is scaled for, instead of requests in progress."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ttft_s: Annotated[float, Field(gt=0, le=3600)]
    """Seconds within which 99 of 100 answers should begin. There are as many replicas as that
    needs, within `min_replicas` and `max_replicas`."""


class Autoscaling(AutoscalingConfig):
    """Ray Serve's own autoscaling settings, unknown ones refused, and `slo`.

    Source: https://docs.ray.io/en/latest/serve/autoscaling-guide.html
    """

    model_config = ConfigDict(extra="forbid")

    slo: SLO | None = None

    @model_validator(mode="after")
    def _scaled_by_one_rule(self) -> "Autoscaling":
        if self.slo and (other := self.model_fields_set & {"policy", "target_ongoing_requests"}):
            raise ValueError(f"slo and {min(other)} exclude each other; give only one of them")
        return self

    def for_ray(self, **defaults: Any) -> dict[str, Any]:
        """The settings as Ray Serve takes them.

        Args:
            defaults: of settings that are not given.
        """
        given = self.model_dump(exclude={"slo"}, exclude_unset=True)
        if self.slo is None:
            return {**defaults, **given}
        policy = {
            "policy_function": "deployments.scaling.slo:SLOPolicy",
            "policy_kwargs": self.slo.model_dump(),
        }
        return {**defaults, **_SLO_DEFAULTS, **given, "policy": policy}


# Ray Serve's are for averages over half a minute, which would tell of a spike when it is over.
_SLO_DEFAULTS = {
    "upscale_delay_s": 0.0,
    "downscale_delay_s": 10.0,
    # How often replicas and routers report, and what their reports are averages of. Ray calls it
    # deprecated, but Ray 2.60 doesn't read the environment variables that are to replace it.
    "metrics_interval_s": 1.0,
    "look_back_period_s": 1.2,
}


def _without_slo(given: Any) -> Any:
    if isinstance(given, dict) and given.get("slo") is not None:
        raise ValueError(
            "slo: only a model that runs here can have one, since more replicas of anything else "
            "make no answer begin sooner; give target_ongoing_requests instead"
        )
    return given


ScaledByRequests = Annotated[Autoscaling, BeforeValidator(_without_slo)]
"""The settings of what runs no model, and so can keep no `slo`."""


class Circuit(BaseModel):
    """When a model that keeps failing is passed over."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    failures: Annotated[int, Field(ge=1)] = 5
    """Faults in a row that open the circuit, each within five minutes of the one before."""
    seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """How long the model is skipped before one request tests whether it has recovered."""


class ModelConfig(BaseModel):
    """What every model has, whichever backend answers for it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    DEFAULT_CAPABILITIES: ClassVar[frozenset[Capability]] = frozenset({"tools", "json"})

    # Printable ASCII, since it is sent in headers.
    name: Annotated[str, Field(max_length=LONGEST_NAME, pattern=r"^[!-~]([ -~]*[!-~])?$")]
    """The name that requests use. Printable ASCII, since it is sent in headers; not `auto`."""
    backend: Annotated[str, Field(min_length=1)]
    """Where the model runs: `huggingface` (or `hflocal`), `vllm`, `sglang`, `simulated`, or a
    provider that LiteLLM supports, such as `openai`, `anthropic`, `gemini` (or `google`), `groq`
    or `ollama`."""
    model: str | None = None
    """The provider's name for the model, by default `name`. A path that begins with `./` is a
    folder beside the configuration file."""
    task: Task = "chat"
    """What the model does: `chat` answers requests; `embedding` only turns texts into vectors, for
    `POST /v1/embeddings`. The latter is for models of providers and on vLLM or SGLang servers."""
    cost_per_input_token: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """USD for each token of the prompt, cached or not. By default the price in LiteLLM's list,
    including its prices for cached and cache-written tokens, reasoning, long prompts and service
    tiers. Smart routing needs a price."""
    cost_per_output_token: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """USD for each token of the answer, likewise."""
    prior_quality: Annotated[float, Field(ge=0, le=1)] | None = None
    """The quality that smart routing assumes until answers are scored. By default a guess
    from the price."""
    autoscaling: Autoscaling | None = None
    """How many replicas the model has. By default one, or those that hosted models share."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 256
    """How many requests one replica works on at a time."""
    max_queued_requests: Annotated[int, Field(ge=1)] | None = None
    """How many requests may wait in each router replica, or in each replica that hosted models
    share; more are refused with 429. By default as many as `max_ongoing_requests`."""
    timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """The longest silence in seconds, before the answer or within it."""
    first_token_timeout: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """The longest wait for the first token in seconds, if another model could take over."""
    thinking_timeout: Annotated[
        Annotated[float, Field(gt=0, le=3600)] | None, Field(validate_default=True)
    ] = None
    """Seconds that a reasoning model may be silent before the first word of its answer, if that is
    longer than the two limits above. By default 120 for models that LiteLLM lists as reasoning,
    and for any request with a `reasoning_effort` other than `none`."""
    rate_limit_wait: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """The longest `Retry-After`, in seconds, to wait for even if another model could take over.
    With 0, the next model is asked at once."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often one request may ask the model again."""
    circuit: Circuit = Circuit()
    """When the model is skipped because it keeps failing."""
    context_window: Annotated[int, Field(ge=1)] | None = None
    """The most tokens of prompt and answer together. By default what the model, its server or
    LiteLLM's list says."""
    capabilities: frozenset[Capability] | None = None
    """What the model can do beyond text. By default what its backend can."""
    fallbacks: tuple[str, ...] = ()
    """Other models, asked after all candidates of a request have failed, unless the request names
    its `models`."""

    @field_validator("name")
    @classmethod
    def _name_is_not_the_router(cls, name: str) -> str:
        if name == "auto":
            raise ValueError("'auto' is the router's own name; choose another")
        return name

    @model_validator(mode="after")
    def _embeds_alone(self) -> "ModelConfig":
        if self.embeds:
            for name in ("fallbacks", "capabilities"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name}: leave it out for a model with `task: embedding`, whose vectors "
                        "can't be compared with another model's, and which answers no chats"
                    )
        return self

    @field_serializer("capabilities", when_used="json")
    def _in_one_order(self, capabilities: frozenset[Capability] | None) -> list[str] | None:
        return None if capabilities is None else sorted(capabilities)

    @property
    def provider_model(self) -> str:
        """The model's name where it is served."""
        return self.model or self.name

    @property
    def identity(self) -> str:
        """Which model is behind the name, so that what one did is not credited to another that
        takes its name. A folder is identified by the end of its path, so that it may be moved.
        """
        return f"{self.backend}/{path_end(self.provider_model)}"

    @property
    def window(self) -> int | None:
        """Tokens that prompt and answer may have together, if the configuration says so."""
        return self.context_window

    @property
    def parent(self) -> str | None:
        """The model that this one adapts, if it is an adapter."""
        return None

    @property
    def embeds(self) -> bool:
        """Whether it embeds texts, instead of answering chats."""
        return self.task == "embedding"

    @property
    def abilities(self) -> frozenset[Capability]:
        """What the model can be asked for beyond text."""
        return self.DEFAULT_CAPABILITIES if self.capabilities is None else self.capabilities

    @property
    def may_sleep(self) -> bool:
        """Whether it may scale to zero replicas."""
        return self.autoscaling is not None and self.autoscaling.min_replicas == 0

    @property
    def shares(self) -> bool:
        """Whether it shares a deployment with other models of its kind."""
        return False

    @property
    def served(self) -> Sequence["ModelConfig"]:
        """The models that its replicas answer as: this one first, then its adapters."""
        return [self]

    def thinking_seconds(self, effort: str | None) -> float:
        """Seconds of silence allowed before the first word of an answer, if that is more than the
        model's other time limits; 0 if it is not expected to think.

        Args:
            effort: the request's `reasoning_effort`. Any model is expected to think if it is given.
        """
        if effort == "none":
            return 0.0
        if self.thinking_timeout is None:
            return 0.0 if effort is None else THINKING_S
        return self.thinking_timeout

    @property
    def queue(self) -> int:
        """Requests that may wait in each router replica."""
        if self.max_queued_requests is None:
            return self.max_ongoing_requests
        return self.max_queued_requests

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        """The resources that Ray reserves for a replica; few, since most models run elsewhere."""
        return {"num_cpus": 0.1}

    @property
    def resources(self) -> tuple[float, float]:
        """CPUs and GPUs of one replica and its workers."""
        return self.ray_actor_options["num_cpus"], self.ray_actor_options.get("num_gpus", 0)

    @property
    def what_runs(self) -> str:
        """What runs in a replica, in a few words for the operator."""
        return self.backend

    def faults(self) -> Iterator[str]:
        """Why the model can't run with what is installed; each reason begins with a key."""
        yield from ()

    @property
    def missing_library(self) -> str | None:
        """Names the libraries that its replicas need and that are not installed here, and the
        command that installs them; None if nothing is missing."""
        return None

    def faults_here(self) -> Iterator[str]:
        """Why else it can't run on this machine, such as a folder that doesn't exist."""
        folder = Path(self.provider_model)
        if folder.is_absolute() and not folder.is_dir():
            yield f"model: there is no folder {folder}"


class HostedConfig(ModelConfig):
    """A model served elsewhere, which a replica calls over the network."""

    hostname: str | None = None
    """The server's URL, with or without `/v1`. By default the provider's own."""
    api_key: Secret | None = None
    """The environment variable that holds the key, as `${NAME}`; it is read inside the replica. By
    default the provider's usual variable."""
    own_deployment: bool = False
    """Whether it gets a deployment, and so a process, of its own, as with `autoscaling`. By default
    it shares one with the other hosted models of its kind."""

    @field_validator("autoscaling", mode="before")
    @classmethod
    def _has_no_slo(cls, given: Any) -> Any:
        return _without_slo(given)

    @field_validator("hostname")
    @classmethod
    def _hostname_is_a_url(cls, hostname: str | None) -> str | None:
        # The messages must not repeat the value, which may hold a secret.
        if hostname is None:
            return None
        if not re.fullmatch(r"https?://[^/\s@?#]+(/[^\s@?#]*)?", hostname):
            raise ValueError(
                "write the server's URL as http://host:port, without user, password, query or "
                "fragment; a key goes into `api_key`"
            )
        try:
            named = urlsplit(hostname).hostname and urlsplit(hostname).port != 0
        except ValueError:
            named = False
        if not named:
            raise ValueError(
                "write the server's URL as http://host:port, with a port from 1 to 65535"
            )
        return hostname

    @property
    def shares(self) -> bool:
        return not self.own_deployment and self.autoscaling is None

    @property
    def resources(self) -> tuple[float, float]:
        return (0.0, 0.0) if self.shares else super().resources

    @property
    def what_runs(self) -> str:
        return f"calls {self.hostname or self.backend}"

    def faults_here(self) -> Iterator[str]:
        try:
            self.resolve_api_key()
        except ValueError as error:
            yield f"api_key: {error}"

    def resolve_api_key(self) -> str | None:
        """The key itself, read from the replica's environment; None where none is configured.

        Raises:
            ValueError: the variable is not set, or can't be a key.
        """
        if self.api_key is None:
            return None
        return self.api_key.resolve_key(needed_by=f"model '{self.name}'", runs="its replica")


def path_end(model: str) -> str:
    """A model's name at its provider; of an absolute path, the last two parts."""
    return "/".join(model.split("/")[-2:]) if model.startswith("/") else model
