"""The configuration of a transformers model inside the replica."""

from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from deployments.config import ModelConfig, path_end

_LIBRARIES = ("torch", "transformers", "accelerate", "llguidance")


class HuggingFaceConfig(ModelConfig):
    """A transformers model inside the replica."""

    backend: Literal["huggingface", "hflocal"]
    """`hflocal` is AIOS's name for the same."""
    max_gpu_memory: Annotated[dict[int, str], Field(min_length=1)] | None = None
    """Accelerate's `max_memory` of one GPU, such as `{0: 24GB}`: continuous batching keeps its
    cache on one device."""
    eval_device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")] | None = None
    """The torch device: `cpu` (the default), `cuda` or `cuda:0`."""
    gpus: Annotated[float, Field(ge=0)] | None = None
    """GPUs that Ray reserves for a replica. By default one if `max_gpu_memory` or `eval_device`
    names a GPU, else none."""
    cpus: Annotated[float, Field(gt=0)] = 0.5
    """CPUs that Ray reserves for a replica, and the threads that torch uses."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """The type of the weights; `auto` is that of the files."""
    max_ongoing_requests: Annotated[int, Field(ge=1)] = 64
    """Requests that one replica works on at a time."""

    @property
    def identity(self) -> str:
        return f"huggingface/{path_end(self.provider_model)}"

    @field_validator("max_gpu_memory")
    @classmethod
    def _one_gpu(cls, memory: dict[int, str] | None) -> dict[int, str] | None:
        if memory is not None and len(memory) > 1:
            raise ValueError(
                "a Hugging Face model runs on one GPU; serve one that needs several on a "
                "vLLM server (backend: vllm, hostname: …)"
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
    def what_runs(self) -> str:
        return "transformers"

    @property
    def missing_library(self) -> str | None:
        missing = [library for library in _LIBRARIES if find_spec(library) is None]
        if not missing:
            return None
        return (
            f"needs {', '.join(missing)}, not installed; run: pip install "
            "'llm-cores-on-ray-serve[local]' (in a clone of the repository: pip install '.[local]')"
        )

    @property
    def ray_actor_options(self) -> dict[str, Any]:
        return {"num_cpus": self.cpus, "num_gpus": self.num_gpus}
