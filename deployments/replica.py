"""A backend in a process of Ray Serve's: what a replica of most models is."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import ProviderError
from deployments.registry import load

# A backend that runs ahead of its reader by this many chunks waits for it.
_READ_AHEAD = 1024


class Replica:
    """One replica of one model."""

    def __init__(self, config: ModelConfig) -> None:
        self._backend = load(config)
        self._timeout = config.timeout

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request`, in as few messages as may be; see `answer`."""
        async with aclosing(answer(self._backend.chat(request), request, self._timeout)) as pieces:
            async for piece in pieces:
                yield piece

    async def check_health(self) -> None:
        """Called by Ray Serve; a replica that raises is replaced."""
        await self._backend.check_health()

    async def __del__(self) -> None:
        # A replica whose constructor raised has no backend.
        if hasattr(self, "_backend"):
            await self._backend.aclose()


async def answer(
    chunks: AsyncGenerator[Chunk, None], request: ChatRequest, silence: float
) -> AsyncGenerator[Chunk, None]:
    """An answer as it leaves: streamed, as it is written; whole, in as few chunks as may be.

    Args:
        chunks: what the backend writes.
        request: what is answered.
        silence: seconds after which the router gives up waiting.
    """
    # Often enough for the router to see that an answer which it waits for whole goes on.
    pause = 0 if request.stream else silence / 4
    async with aclosing(chunks), aclosing(coalesce(chunks, pause)) as pieces:
        async for piece in pieces:
            yield piece


async def coalesce(
    chunks: AsyncGenerator[Chunk, None], pause: float
) -> AsyncGenerator[Chunk, None]:
    """Joins chunks, since each item costs a message between processes.

    Args:
        chunks: what the backend writes.
        pause: seconds to wait for more before an item is sent. With 0 the first leaves at once,
            and what came while it was being sent leaves as one.
    """
    queue: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue(_READ_AHEAD)

    async def read() -> None:
        try:
            async for chunk in chunks:
                await queue.put(chunk)
            await queue.put(None)
        except asyncio.CancelledError:
            # Of a library's own making, perhaps: then the reader still waits.
            with suppress(asyncio.QueueFull):
                queue.put_nowait(ProviderError("the backend gave up"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the reader
            await queue.put(error)

    reading = asyncio.create_task(read())
    try:
        while True:
            items = [await queue.get()]
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    while isinstance(items[-1], Chunk):
                        items.append(await queue.get())
            if ready := [item for item in items if isinstance(item, Chunk)]:
                yield merge(ready)
            if items[-1] is None:
                return
            if isinstance(items[-1], Exception):
                raise items[-1]
    finally:
        # Only when nothing reads it any more can the backend's stream be closed.
        reading.cancel()
        await asyncio.wait([reading])
