"""The configuration of a vLLM engine on this cluster, and of its LoRA adapters."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from ray.util.accelerators import accelerators

from deployments.config import LONGEST_NAME, Capability, ModelConfig, path_end

_ACCELERATORS = frozenset(
    value for name, value in vars(accelerators).items() if name.isupper() and isinstance(value, str)
)


class EngineConfig(ModelConfig):
    """A vLLM engine on this cluster's own GPUs."""

    backend: Literal["vllm"]
    """Without `hostname`, an engine on this cluster."""
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """GPUs of a replica. By default as many as its tensor and pipeline parallelism need. A
    fraction shares one GPU; 0 runs vLLM's build for CPUs."""
    cpus: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1
    """CPUs that Ray reserves for a replica in addition."""
    accelerator_type: str | None = None
    """Ray's name for the GPU, such as `H100` or `L4`. By default any."""
    engine: Annotated[dict[str, Any], Field(default_factory=dict, validate_default=True)]
    """vLLM's own [arguments](https://docs.vllm.ai/en/stable/configuration/engine_args.html)."""
    adapters: Annotated[
        dict[Annotated[str, Field(pattern=r"^[!-9;-~]+$")], str], Field(default_factory=dict)
    ]
    """LoRA adapters by name, each a hub name or a folder. Requests call one `<model's
    name>:<adapter's name>`."""

    @field_validator("accelerator_type")
    @classmethod
    def _accelerator_is_known(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is not None and name not in _ACCELERATORS:
            raise ValueError(f"unknown to Ray; it knows {', '.join(sorted(_ACCELERATORS))}")
        if name is not None and info.data.get("gpus") == 0:
            raise ValueError("leave it out: with `gpus: 0` the engine runs on CPUs")
        return name

    @field_validator("engine")
    @classmethod
    def _engine_has_only_its_own_arguments(cls, engine: dict[str, Any]) -> dict[str, Any]:
        for key in engine:
            if instead := _NOT_THE_ENGINES.get(
                key.split("_parallel_")[0], _NOT_THE_ENGINES.get(key)
            ):
                raise ValueError(f"{key}: {instead}")
        if isinstance(engine.get("hf_token"), str):
            # The message must not repeat the value.
            raise ValueError(
                "hf_token: must not be in the configuration; set the environment variable HF_TOKEN "
                "where the replicas run"
            )
        for key in _SIZES:
            size = engine.get(key, 1)
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{key}: must be a whole number, 1 or more")
        return engine

    @field_validator("adapters")
    @classmethod
    def _adapters_can_be_loaded(
        cls, adapters: dict[str, str], info: ValidationInfo
    ) -> dict[str, str]:
        for name, at in adapters.items():
            if len(info.data.get("name", "")) + 1 + len(name) > LONGEST_NAME:
                raise ValueError(
                    f"{name}: is too long: with the model's name, at most {LONGEST_NAME} characters"
                )
            if "://" in at:
                raise ValueError(f"{name}: must be a hub name or a folder, not a URI")
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
                f"tensor_parallel_size × pipeline_parallel_size is {workers}, but `gpus` is "
                f"{gpus:g}; give one of the two, or make them agree"
            )
        return engine

    @property
    def tensor_parallel_size(self) -> int:
        """GPUs that each layer is split over: `engine`'s, else as many as use up `gpus`."""
        if "tensor_parallel_size" in self.engine or not self.gpus:
            return int(self.engine.get("tensor_parallel_size", 1))
        return max(1, int(self.gpus) // self.pipeline_parallel_size)

    @property
    def pipeline_parallel_size(self) -> int:
        """Groups of GPUs that the layers are distributed over."""
        return int(self.engine.get("pipeline_parallel_size", 1))

    @property
    def abilities(self) -> frozenset[Capability]:
        """By default JSON, which the engine enforces for any model, and tools if it is told how
        the model writes its calls."""
        if self.capabilities is not None:
            return self.capabilities
        reads = self.engine.get("tool_call_parser") and self.engine.get(
            "enable_auto_tool_choice", True
        )
        return frozenset({"json", "tools"} if reads else {"json"})

    @property
    def window(self) -> int | None:
        longest = self.engine.get("max_model_len")
        # For vLLM, less than 1 means "find out".
        known = longest if isinstance(longest, int) and longest > 0 else None
        return self.context_window or known

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        # Without GPUs, the CPUs are the engine's, in its placement group.
        return {"num_cpus": 0 if self.gpus == 0 else self.cpus}

    @property
    def resources(self) -> tuple[float, float]:
        workers = self.tensor_parallel_size * self.pipeline_parallel_size
        return self.cpus, workers if self.gpus is None else self.gpus

    @property
    def what_runs(self) -> str:
        return "vLLM engine"

    def faults(self) -> Iterator[str]:
        if find_spec("vllm") is None:
            yield (
                "backend: a vllm model without `hostname` runs on this cluster, which needs the "
                "engine: pip install 'llm-cores-on-ray-serve[vllm]'; or give the `hostname` of a "
                "server"
            )

    @property
    def served(self) -> Sequence[ModelConfig]:
        return [self, *(AdapterConfig.of(self, name) for name in self.adapters)]


_SET_BY_RAY = "is set by Ray"
# vLLM's arguments that have a key of their own here, or no meaning in a replica; `data` and
# `prefill_context` stand for all arguments of that kind of parallelism.
_NOT_THE_ENGINES = {
    "model": "give it as the model's own key `model`",
    "served_model_name": "it is the model's `name`",
    "lora_modules": "give them as the model's own key `adapters`",
    "distributed_executor_backend": _SET_BY_RAY,
    "data": "give `autoscaling` instead, for more replicas",
    "prefill_context": "not supported: Ray places workers for tensor and pipeline parallelism only",
    "nnodes": _SET_BY_RAY,
    "node_rank": _SET_BY_RAY,
    "master_addr": _SET_BY_RAY,
    "master_port": _SET_BY_RAY,
}
_SIZES = ("tensor_parallel_size", "pipeline_parallel_size")


class AdapterConfig(EngineConfig):
    """A LoRA adapter, in the replicas of the model that it adapts. It is not written in the
    configuration but made from that model's.

    It was trained for a task of its own, so it answers only requests that name it.
    """

    base: str
    """The name of the model that it adapts."""
    adapter: str
    """The hub name or folder of the adapter."""

    @property
    def identity(self) -> str:
        return f"{super().identity}+{path_end(self.adapter)}"

    @property
    def parent(self) -> str | None:
        return self.base

    @classmethod
    def of(cls, model: EngineConfig, adapter: str) -> "AdapterConfig":
        """The adapter as a model of its own, configured as `model` is."""
        given = {field: getattr(model, field) for field in model.model_fields_set}
        own = {"name": f"{model.name}:{adapter}", "adapters": {}}
        own |= {"base": model.name, "adapter": model.adapters[adapter]}
        return cls(**{**given, **own})
