"""Ray Serve LLM's vLLM deployment behind our contract; imported only if a model needs it.

Source: https://docs.ray.io/en/latest/serve/llm/index.html
"""

import asyncio
import dataclasses
import difflib
import os
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ray.llm._internal.common.utils.download_utils import STREAMING_LOAD_FORMATS
from ray.serve.deployment import Application
from ray.serve.llm import LLMConfig, build_llm_deployment
from ray.serve.llm.deployment import LLMServer
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import BaseFrontendArgs
from vllm.entrypoints.openai.models.protocol import LoRAModulePath
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from deployments.backends.vllm.backend import VLLMBackend
from deployments.backends.vllm.config import EngineConfig
from deployments.contract import ChatRequest, Chunk
from deployments.replicas.error_log import log_known_errors_in_one_line
from deployments.replicas.measuring import measured
from deployments.replicas.sending import Sender
from deployments.scaling.work import meter_for
from deployments.telemetry.reporting import report_metrics

# Each adapter in use takes GPU memory; more than these take turns.
_MOST_ADAPTERS_AT_ONCE = 4

# Arguments of the engine, and those of vLLM's server that concern answers rather than HTTP.
_ARGUMENTS = frozenset(
    field.name for args in (AsyncEngineArgs, BaseFrontendArgs) for field in dataclasses.fields(args)
)
# By the key of a parser: the key of a plugin that adds more of them, and the names vLLM has.
_PARSERS: Mapping[str, tuple[str, Callable[[], Collection[str]]]] = {
    "tool_call_parser": ("tool_parser_plugin", ToolParserManager.list_registered),
    "reasoning_parser": ("reasoning_parser_plugin", ReasoningParserManager.list_registered),
}


class VLLMReplica(LLMServer):
    """One replica of a model: Ray's server around the engine, with our `ChatRequest` as input."""

    async def __init__(  # type: ignore[misc]
        self, llm_config: LLMConfig, config: EngineConfig
    ) -> None:
        # By default vLLM sends usage statistics to its developers.
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        await super().__init__(llm_config)
        log_known_errors_in_one_line()
        _check_model_was_found(llm_config)
        self._reporter = report_metrics()
        self._provider = config.backend
        self._sender = Sender(min(config.timeout, config.first_token_timeout))
        self._backend = VLLMBackend(config, super().chat)
        self._meter = meter_for(config)
        # Ray Serve calls it if it isn't None.
        self.record_autoscaling_stats = self._meter and self._meter.report

    async def chat(  # type: ignore[override]
        self, request: ChatRequest
    ) -> AsyncGenerator[Chunk, None]:
        """Answers `request` in as few messages as possible; see `Sender`."""
        chunks = measured(self._backend.chat(request), request, self._provider)
        if self._meter is not None:
            chunks = self._meter.watch(chunks, request)
        async with aclosing(self._sender.send(chunks, request)) as pieces:
            async for piece in pieces:
                yield piece

    async def __del__(self) -> None:
        # Ray Serve awaits it, also if the constructor raised.
        try:
            await super().__del__()
        finally:
            if hasattr(self, "_reporter"):
                await asyncio.to_thread(self._reporter.close)

    async def context_windows(self, models: Sequence[str]) -> dict[str, int | None]:
        """The context window, which the model's adapters share."""
        # Private, but Ray's server has no public way to the engine's resolved `max_model_len`.
        engine: Any = self.engine
        longest: int = engine._engine_client.model_config.max_model_len
        return dict.fromkeys(models, longest)


def deploy_engine(config: EngineConfig, options: dict[str, Any]) -> Application:
    """The Ray Serve application node for one model.

    Args:
        config: the model.
        options: of its deployment.

    Raises:
        ValueError: `engine` names an argument or parser that vLLM doesn't have, or Ray rejects the
            configuration.
    """
    for key in config.engine:
        _check_known("argument", key, _ARGUMENTS)
    # vLLM would look these up only after loading the weights.
    for key, (plugin, parsers) in _PARSERS.items():
        if config.engine.get(key) and not config.engine.get(plugin):
            _check_known(key, config.engine[key], parsers())
    if "autoscaling_config" not in options:
        # Ray's default for LLMs would autoscale at a billion requests for each replica.
        options["num_replicas"] = 1
    return build_llm_deployment(
        llm_config(config),
        deployment_cls=VLLMReplica,
        bind_kwargs={"config": config},
        override_serve_options=options,
    )


def _check_known(what: str, name: str, names: Collection[str]) -> None:
    if name not in names:
        near = difflib.get_close_matches(str(name), names, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"engine: vLLM has no {what} '{name}'{hint}")


def llm_config(config: EngineConfig) -> LLMConfig:
    """Our configuration translated to Ray's.

    Raises:
        ValueError: Ray rejects it.
    """
    engine = dict(config.engine)
    shared = config.gpus is not None and 0 < config.gpus < 1
    if shared:
        # Each replica takes its share of the GPU's memory, with some headroom.
        engine.setdefault("gpu_memory_utilization", round(0.9 * (config.gpus or 0), 3))
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
    try:
        return LLMConfig(
            model_loading_config={"model_id": config.name, "model_source": config.provider_model},
            engine_kwargs=engine,
            accelerator_type=config.accelerator_type,
            placement_group_config=_placement(config),
            runtime_env={"env_vars": _sharing(config.gpus)} if config.gpus and shared else None,
            deployment_config={"ray_actor_options": config.ray_actor_options},
            log_engine_metrics=not engine.get("disable_log_stats"),
            # The first token is sent at once; `Sender` batches tokens that arrive faster than that.
            experimental_configs={"stream_batching_interval_ms": 0},
        )
    except ValidationError as error:
        # Only the message, since the whole error repeats its input.
        raise ValueError(f"engine: {error.errors()[0]['msg']}") from None


def _sharing(gpus: float) -> dict[str, str]:
    """Environment variables of replicas that share a GPU.

    Source: https://docs.ray.io/en/latest/serve/llm/user-guides/fractional-gpu.html
    """
    return {"VLLM_RAY_PER_WORKER_GPUS": str(gpus), "VLLM_DISABLE_COMPILE_CACHE": "1"}


def _check_model_was_found(llm_config: LLMConfig) -> None:
    """Raises ValueError if an object store had no model.

    Ray would then load whatever the hub has under this model's name.
    """
    # `STREAMING_LOAD_FORMATS` and the engine config's fields are private, but Ray only logs that a
    # download failed.
    engine: Any = llm_config.get_engine_config()
    streamed = engine.engine_kwargs.get("load_format") in STREAMING_LOAD_FORMATS
    if engine.mirror_config and not streamed and not Path(engine.actual_hf_model_id).is_dir():
        raise ValueError(f"there is no model at {engine.mirror_config.bucket_uri}")


def _placement(config: EngineConfig) -> dict[str, Any] | None:
    """Where a replica's processes go; None for Ray's default of one GPU per worker."""
    if config.gpus == 0:
        return {"bundles": [{"CPU": config.cpus}]}
    if config.gpus is not None and config.gpus < 1:
        return {"bundle_per_worker": {"GPU": config.gpus}}
    return None
