"""A Ray Serve replica of one model."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, EmbeddingRequest, Embeddings
from deployments.replicas.error_log import log_known_errors_in_one_line
from deployments.replicas.model import ServedModel
from deployments.replicas.reachability import Reach
from deployments.scaling.work import meter_for
from deployments.telemetry.reporting import report_metrics


class Replica:
    """One replica of a model that has a deployment of its own."""

    def __init__(self, config: ModelConfig) -> None:
        log_known_errors_in_one_line()
        self._reporter = report_metrics()
        meter = meter_for(config)
        # Ray Serve calls it if it isn't None.
        self.record_autoscaling_stats = meter and meter.report
        self._served = ServedModel(config, meter=meter)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """See `ServedModel.chat`."""
        async with aclosing(self._served.chat(request)) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """See `Embedder.embed`."""
        return await self._served.embed(request)

    async def reach(self, models: Sequence[str]) -> dict[str, Reach]:
        """Whether the provider of the model, by whichever names, can be reached."""
        return dict.fromkeys(models, Reach(unreachable=await self._served.unreachable()))

    async def context_windows(self, models: Sequence[str]) -> dict[str, int | None]:
        """See `Backend.context_window`."""
        return dict.fromkeys(models, await self._served.context_window())

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica if this raises."""
        await self._served.check_health()

    async def close(self) -> None:
        """Closes the model."""
        # There is none if the constructor raised.
        try:
            if hasattr(self, "_served"):
                await self._served.aclose()
        finally:
            if hasattr(self, "_reporter"):
                await asyncio.to_thread(self._reporter.close)

    __del__ = close  # awaited by Ray Serve, at the end of the replica
