"""A backend in a Ray Serve replica."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk
from deployments.error_log import log_known_errors_in_one_line
from deployments.errors import Unreachable
from deployments.reachability import Provider
from deployments.registry import load
from deployments.sending import Sender


class Replica:
    """One replica of a model."""

    def __init__(self, config: ModelConfig) -> None:
        log_known_errors_in_one_line()
        self._backend = load(config)
        self._provider = Provider(config)
        self._sender = Sender(min(config.timeout, config.first_token_timeout))

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` in as few messages as possible; see `Sender`."""
        async with aclosing(self._sender.send(self._backend.chat(request), request)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except Unreachable as error:
                self._provider.explain(error)
                raise
        self._provider.reached()

    async def unreachable(self) -> str:
        """Why the model's provider can't be reached; "" if it can, as far as known."""
        return await self._provider.unreachable()

    async def context_window(self) -> int | None:
        """See `Backend.context_window`."""
        return await self._backend.context_window()

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces the replica if this raises."""
        await self._backend.check_health()

    async def __del__(self) -> None:
        # There is no backend if the constructor raised.
        if hasattr(self, "_backend"):
            await self._backend.aclose()
