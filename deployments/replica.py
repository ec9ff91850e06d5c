"""A Ray Serve replica of one model."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk
from deployments.error_log import log_known_errors_in_one_line
from deployments.reachability import Reach
from deployments.served import Served


class Replica:
    """One replica of a model that has a deployment of its own."""

    def __init__(self, config: ModelConfig) -> None:
        log_known_errors_in_one_line()
        self._served = Served(config)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """See `Served.chat`."""
        async with aclosing(self._served.chat(request)) as pieces:
            async for piece in pieces:
                yield piece

    async def reach(self, models: Sequence[str]) -> dict[str, Reach]:
        """Whether the provider of the model, by whichever names, can be reached."""
        return dict.fromkeys(models, Reach(unreachable=await self._served.unreachable()))

    async def context_windows(self, models: Sequence[str]) -> dict[str, int | None]:
        """See `Backend.context_window`."""
        return dict.fromkeys(models, await self._served.context_window())

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica if this raises."""
        await self._served.check_health()

    async def __del__(self) -> None:
        # There is no backend if the constructor raised.
        if hasattr(self, "_served"):
            await self._served.aclose()
