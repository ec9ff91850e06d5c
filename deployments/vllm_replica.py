"""Ray's own vLLM deployment, behind our contract. Imported only where such a model is configured.

Source: https://docs.ray.io/en/latest/serve/llm/index.html
"""

import dataclasses
import difflib
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ray.serve.deployment import Application
from ray.serve.llm import LLMConfig, build_llm_deployment
from ray.serve.llm.deployment import LLMServer
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import BaseFrontendArgs
from vllm.entrypoints.openai.models.protocol import LoRAModulePath

from deployments.config import EngineConfig
from deployments.contract import ChatRequest, Chunk
from deployments.replica import answer
from deployments.vllm_backend import VLLMBackend


class VLLMReplica(LLMServer):
    """One replica of one model: Ray's server around the engine, asked by our `ChatRequest`."""

    async def __init__(  # type: ignore[misc]
        self, llm_config: LLMConfig, config: EngineConfig
    ) -> None:
        # vLLM reports to its makers unless it is told not to.
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        await super().__init__(llm_config)
        self._config = config
        self._backend = VLLMBackend(config, super().chat)

    async def chat(  # type: ignore[override]
        self, request: ChatRequest
    ) -> AsyncGenerator[Chunk, None]:
        """Answers `request`, in as few messages as may be; see `deployments.replica.answer`."""
        chunks = self._backend.chat(request)
        async with aclosing(answer(chunks, request, self._config.timeout)) as pieces:
            async for piece in pieces:
                yield piece


def deploy_engine(config: EngineConfig, options: dict[str, Any]) -> Application:
    """The Ray Serve application node for one model.

    Args:
        config: the model.
        options: of its deployment.

    Raises:
        ValueError: vLLM has no argument of a name that `engine` gives.
    """
    for key in config.engine:
        if key not in _ARGUMENTS:
            near = difflib.get_close_matches(key, _ARGUMENTS, 1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"engine.{key}: vLLM has no such argument{hint}")
    options = {**options, "health_check_period_s": _HEALTH_CHECK_PERIOD_S}
    if "autoscaling_config" not in options:
        # Else Ray's default for LLMs autoscales towards a thousand million requests a replica.
        options["num_replicas"] = 1
    return build_llm_deployment(
        llm_config(config),
        deployment_cls=VLLMReplica,
        bind_kwargs={"config": config},
        override_serve_options=options,
    )


def llm_config(config: EngineConfig) -> LLMConfig:
    """Ray's configuration for ours."""
    engine = dict(config.engine)
    if config.tensor_parallel_size > 1:
        engine["tensor_parallel_size"] = config.tensor_parallel_size
    if "tool_call_parser" in engine:
        engine.setdefault("enable_auto_tool_choice", True)
    if config.adapters:
        engine["enable_lora"] = True
        engine.setdefault("max_loras", min(len(config.adapters), _MOST_ADAPTERS_AT_ONCE))
        engine["lora_modules"] = [
            LoRAModulePath(name=f"{config.name}:{name}", path=path)
            for name, path in config.adapters.items()
        ]
    return LLMConfig(
        model_loading_config={"model_id": config.name, "model_source": config.provider_model},
        engine_kwargs=engine,
        accelerator_type=config.accelerator_type,
        placement_group_config=_placement(config),
        deployment_config={"ray_actor_options": config.ray_actor_options},
        # The first token leaves at once; `answer` joins what comes faster than it can be sent.
        experimental_configs={"stream_batching_interval_ms": 0},
    )


# A replica whose engine has died fails what it is given until three checks have said so.
_HEALTH_CHECK_PERIOD_S = 2.0

# Every adapter in use at once takes memory of the GPU; more of them take turns.
_MOST_ADAPTERS_AT_ONCE = 4

# Those of vLLM's server are about its HTTP, which is not used here, but for the ones on answers.
_ARGUMENTS = frozenset(
    field.name for args in (AsyncEngineArgs, BaseFrontendArgs) for field in dataclasses.fields(args)
)


def _placement(config: EngineConfig) -> dict[str, Any] | None:
    """What a replica's processes are placed by; None for Ray's way, one GPU for each worker."""
    if config.gpus == 0:
        return {"bundles": [{"CPU": config.cpus}]}
    if config.gpus is not None and config.gpus < 1:
        return {"bundle_per_worker": {"GPU": config.gpus}}
    return None
