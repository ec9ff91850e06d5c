"""The configuration of one model: AIOS's keys and ours, checked before anything starts."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from ray.serve.config import AutoscalingConfig
from ray.util.accelerators import accelerators

from deployments.backends.litellm.catalogue import thinks_unasked
from deployments.secrets import Secret

Capability = Literal["tools", "json", "images"]

# LiteLLM's `ollama` writes tools and messages into one prompt; `ollama_chat` is Ollama's chat API.
_LITELLM_NAMES = {"google": "gemini", "ollama": "ollama_chat"}

_LONGEST_NAME = 200
# The default of `thinking_timeout` for models that think.
_THINKING_S = 120.0


class Autoscaling(AutoscalingConfig):
    """Ray Serve's own autoscaling settings, unknown ones refused.

    Source: https://docs.ray.io/en/latest/serve/autoscaling-guide.html
    """

    model_config = ConfigDict(extra="forbid")


class Circuit(BaseModel):
    """When a model that fails is passed over: after so many `failures` one after the other, for so
    many `seconds`; then one request tries whether it answers again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    failures: Annotated[int, Field(ge=1)] = 5
    seconds: Annotated[float, Field(gt=0, le=3600)] = 10.0


class ModelConfig(BaseModel):
    """What every model has, whichever backend answers for it.

    Costs are in USD per token, `prior_quality` (0 to 1) is what smart routing believes of the model
    before its answers are scored, `context_window` is in tokens.

    A replica works on `max_ongoing_requests` at once; `max_queued_requests` (by default as many)
    wait in each router replica. `timeout` is the longest silence in seconds before an answer or
    within it, `first_token_timeout` before an answer where another model could take over.
    `retries` is how often one request may ask again, as far as it concerns this model.

    `thinking_timeout` is how long in seconds a model may think in silence before the first word of
    an answer; see `thinking_seconds`. `rate_limit_wait` is the longest `Retry-After` in seconds
    that is waited for although another model could take over.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    DEFAULT_CAPABILITIES: ClassVar[frozenset[Capability]] = frozenset({"tools", "json"})

    # It travels in headers, so it is printable ASCII.
    name: Annotated[str, Field(max_length=_LONGEST_NAME, pattern=r"^[!-~]([ -~]*[!-~])?$")]
    backend: Annotated[str, Field(min_length=1)]
    model: str | None = None
    cost_per_input_token: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cost_per_output_token: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    prior_quality: Annotated[float, Field(ge=0, le=1)] | None = None
    autoscaling: Autoscaling | None = None
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 256
    max_queued_requests: Annotated[int, Field(ge=1)] | None = None
    timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0
    first_token_timeout: Annotated[float, Field(gt=0, le=3600)] = 10.0
    thinking_timeout: Annotated[
        Annotated[float, Field(gt=0, le=3600)] | None, Field(validate_default=True)
    ] = None
    rate_limit_wait: Annotated[float, Field(ge=0, le=3600)] = 0.0
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    circuit: Circuit = Circuit()
    context_window: Annotated[int, Field(ge=1)] | None = None
    capabilities: frozenset[Capability] | None = None
    fallbacks: tuple[str, ...] = ()

    @field_validator("name")
    @classmethod
    def _name_is_not_the_router(cls, name: str) -> str:
        if name == "auto":
            raise ValueError("'auto' is the router's own name; choose another")
        return name

    @property
    def provider_model(self) -> str:
        """The model's name where it is served."""
        return self.model or self.name

    @property
    def identity(self) -> str:
        """Which model is behind the name: what one did tells nothing of another that takes its
        name. A folder is known by the end of its path, so that it may be moved with what holds it.
        """
        return f"{self.backend}/{_ending(self.provider_model)}"

    @property
    def window(self) -> int | None:
        """Tokens that prompt and answer have together, as far as the configuration tells."""
        return self.context_window

    @property
    def parent(self) -> str | None:
        """The model that this one adapts, if it is an adapter."""
        return None

    @property
    def abilities(self) -> frozenset[Capability]:
        """What the model can be asked for beyond text."""
        return self.DEFAULT_CAPABILITIES if self.capabilities is None else self.capabilities

    @property
    def may_sleep(self) -> bool:
        """Whether it may have no replica while nobody asks it."""
        return self.autoscaling is not None and self.autoscaling.min_replicas == 0

    @property
    def served(self) -> Sequence["ModelConfig"]:
        """What its replicas answer for, each by a name of its own: the model itself first."""
        return [self]

    def thinking_seconds(self, effort: str | None) -> float:
        """How long the model may think in silence before the first word of an answer; 0 where it
        is not expected to think. Until that word it raises the model's other time limits.

        Args:
            effort: the request's `reasoning_effort`. One that is given makes any model think.
        """
        if effort == "none":
            return 0.0
        if self.thinking_timeout is None:
            return 0.0 if effort is None else _THINKING_S
        return self.thinking_timeout

    @property
    def queue(self) -> int:
        """Requests that may wait in each router replica."""
        if self.max_queued_requests is None:
            return self.max_ongoing_requests
        return self.max_queued_requests

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        """What a replica asks of its node; little, since most models are served elsewhere."""
        return {"num_cpus": 0.1}


class HostedConfig(ModelConfig):
    """A model served elsewhere, that a replica calls over the network."""

    hostname: str | None = None
    api_key: Secret | None = None

    @field_validator("hostname")
    @classmethod
    def _hostname_is_a_url(cls, hostname: str | None) -> str | None:
        # The messages must not repeat the value: a secret may stand in it.
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
            raise ValueError("write the server's URL as http://host:port, the port 1 to 65535")
        return hostname

    def resolve_api_key(self) -> str | None:
        """The key itself, read from the replica's environment; None where none is configured.

        Raises:
            ValueError: the variable is not set, or can't be a key.
        """
        if self.api_key is None:
            return None
        return self.api_key.resolve_key(needed_by=f"model '{self.name}'", runs="its replica")


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
            return _THINKING_S
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


class EndpointConfig(HostedConfig):
    """A model on a vLLM or SGLang server elsewhere, called by its OpenAI API."""

    backend: Literal["vllm", "sglang"]
    hostname: str

    @property
    def base_url(self) -> str:
        """The server's API root, whether or not `hostname` was written with it."""
        root = self.hostname.rstrip("/")
        return root if root.endswith("/v1") else root + "/v1"


class HuggingFaceConfig(ModelConfig):
    """A transformers model inside the replica: a hub name or a folder.

    `eval_device` is a torch device ("cpu", "cuda:0"); `max_gpu_memory` is accelerate's `max_memory`
    ({0: "24GB"}), of one GPU: continuous batching keeps its cache on one device. `gpus` and `cpus`
    are what Ray reserves for a replica, and `cpus` the threads that torch gets; without `gpus`, one
    GPU where a key above names one, else none.
    """

    backend: Literal["huggingface", "hflocal"]
    max_gpu_memory: Annotated[dict[int, str], Field(min_length=1)] | None = None
    eval_device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] | None = None
    gpus: Annotated[float, Field(ge=0)] | None = None
    cpus: Annotated[float, Field(gt=0)] = 0.5
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 64

    @property
    def identity(self) -> str:
        return f"huggingface/{_ending(self.provider_model)}"

    @field_validator("max_gpu_memory")
    @classmethod
    def _one_gpu(cls, memory: dict[int, str] | None) -> dict[int, str] | None:
        if memory is not None and len(memory) > 1:
            raise ValueError(
                "a Hugging Face model runs on one GPU; serve one that needs several by a vLLM "
                "server (backend: vllm, hostname: …)"
            )
        return memory

    @property
    def num_gpus(self) -> float:
        """GPUs of one replica."""
        if self.gpus is not None:
            return self.gpus
        on_gpu = self.max_gpu_memory or (self.eval_device or "cpu") != "cpu"
        return 1 if on_gpu else 0

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        return {"num_cpus": self.cpus, "num_gpus": self.num_gpus}


_ACCELERATORS = frozenset(
    value for name, value in vars(accelerators).items() if name.isupper() and isinstance(value, str)
)


class EngineConfig(ModelConfig):
    """A vLLM engine on this cluster's own GPUs.

    `model` is a hub name, a folder or an object store's URI, `engine` holds vLLM's own arguments
    (https://docs.vllm.ai/en/stable/configuration/engine_args.html), and `adapters` LoRA adapters by
    name: each a hub name or a folder, asked for as "<name of the model>:<name of the adapter>".

    A replica takes `gpus` GPUs, by default as many as its tensor and pipeline parallelism need; a
    fraction shares one GPU, 0 runs vLLM's build for CPUs. `cpus` is what Ray reserves beside them.
    """

    backend: Literal["vllm"]
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    accelerator_type: str | None = None
    engine: Annotated[dict[str, Any], Field(validate_default=True)] = {}
    adapters: dict[Annotated[str, Field(pattern=r"^[!-9;-~]+$")], str] = {}

    @field_validator("accelerator_type")
    @classmethod
    def _accelerator_is_known(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None and name not in _ACCELERATORS:
            raise ValueError(f"unknown to Ray; it knows {', '.join(sorted(_ACCELERATORS))}")
        if name is not None and info.data.get("gpus") == 0:
            raise ValueError("an engine with `gpus: 0` runs on CPUs")
        return name

    @field_validator("engine")
    @classmethod
    def _engine_leaves_our_keys(cls, engine: dict[str, Any]) -> dict[str, Any]:
        for key in engine:
            if instead := _NOT_THE_ENGINES.get(
                key.split("_parallel_")[0], _NOT_THE_ENGINES.get(key)
            ):
                raise ValueError(f"{key}: {instead}")
        if isinstance(engine.get("hf_token"), str):
            # The message must not repeat the value.
            raise ValueError(
                "hf_token: a token is not written into the config; put it into the "
                "environment variable HF_TOKEN of the replicas"
            )
        for key in _SIZES:
            size = engine.get(key, 1)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{key}: not a whole number from 1 on")
        return engine

    @field_validator("adapters")
    @classmethod
    def _adapters_can_be_had(cls, adapters: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for name, at in adapters.items():
            if len(info.data.get("name", "")) + 1 + len(name) > _LONGEST_NAME:
                raise ValueError(f"{name}: with the model's name over {_LONGEST_NAME} characters")
            if "://" in at:
                raise ValueError(f"{name}: vLLM takes a hub name or a folder, no URI")
        return adapters

    @field_validator("engine")
    @classmethod
    def _engine_fits_the_gpus(cls, engine: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        gpus, pipeline = info.data.get("gpus"), engine.get("pipeline_parallel_size", 1)
        if not gpus or (gpus % pipeline == 0 and "tensor_parallel_size" not in engine):
            return engine
        workers = pipeline * engine.get("tensor_parallel_size", 1)
        if gpus != workers and not (gpus < 1 and workers == 1):
            raise ValueError(
                f"tensor_parallel_size × pipeline_parallel_size is {workers}, but `gpus` {gpus:g}; "
                "give one of the two, or make them agree"
            )
        return engine

    @property
    def tensor_parallel_size(self) -> int:
        """GPUs that each layer is parted over: `engine`'s, else so many that `gpus` are used."""
        if "tensor_parallel_size" in self.engine or not self.gpus:
            return int(self.engine.get("tensor_parallel_size", 1))
        return max(1, int(self.gpus) // self.pipeline_parallel_size)

    @property
    def pipeline_parallel_size(self) -> int:
        """Groups of GPUs that the layers are dealt out to."""
        return int(self.engine.get("pipeline_parallel_size", 1))

    @property
    def abilities(self) -> frozenset[Capability]:
        """By default JSON, which the engine holds any model to, and tools where it is told how the
        model writes its calls."""
        if self.capabilities is not None:
            return self.capabilities
        reads = self.engine.get("tool_call_parser") and self.engine.get(
            "enable_auto_tool_choice", True
        )
        return frozenset({"json", "tools"} if reads else {"json"})

    @property
    def window(self) -> int | None:
        longest = self.engine.get("max_model_len")
        # vLLM takes less than 1 for "find out".
        known = longest if isinstance(longest, int) and longest > 0 else None
        return self.context_window or known

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        # Without GPUs the CPUs are the engine's, in the placement group.
        return {"num_cpus": 0 if self.gpus == 0 else self.cpus}

    @property
    def served(self) -> Sequence[ModelConfig]:
        return [self, *(AdapterConfig.of(self, name) for name in self.adapters)]


_RAYS = "it is Ray's to choose"
# Arguments of vLLM's that have a key of their own here, or no meaning in a replica; of a kind of
# parallelism, all.
_NOT_THE_ENGINES = {
    "model": "give it as the model's own key `model`",
    "served_model_name": "it is the model's `name`",
    "lora_modules": "give them as the model's own key `adapters`",
    "distributed_executor_backend": _RAYS,
    "data": "more replicas do that: give `autoscaling`",
    "prefill_context": "Ray places workers for tensor and pipeline parallelism alone",
    "nnodes": _RAYS,
    "node_rank": _RAYS,
    "master_addr": _RAYS,
    "master_port": _RAYS,
}
_SIZES = ("tensor_parallel_size", "pipeline_parallel_size")


class AdapterConfig(EngineConfig):
    """A LoRA adapter, in the replicas of the model that it adapts; not written, but made of that.

    It was trained for something of its own, so it answers only who asks for it.
    """

    base: str
    adapter: str

    @property
    def identity(self) -> str:
        return f"{super().identity}+{_ending(self.adapter)}"

    @property
    def parent(self) -> str | None:
        return self.base

    @classmethod
    def of(cls, model: EngineConfig, adapter: str) -> "AdapterConfig":
        """The adapter as a model of its own; what isn't said of it is as of `model`."""
        given = {field: getattr(model, field) for field in model.model_fields_set}
        own = {"name": f"{model.name}:{adapter}", "adapters": {}}
        own |= {"base": model.name, "adapter": model.adapters[adapter]}
        return cls(**{**given, **own})


def _ending(model: str) -> str:
    """A model's name at its provider; of an absolute path, its last two parts."""
    return "/".join(model.split("/")[-2:]) if model.startswith("/") else model
