"""A backend in a process of Ray Serve's: what a replica of most models is."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, merge
from deployments.error_log import log_known_errors_in_one_line
from deployments.errors import ProviderError, Unreachable
from deployments.reachability import Provider
from deployments.registry import load

# Seconds between two messages of one stream: for each stream that there is, and at the longest.
_GAP_S, _LONGEST_GAP_S = 0.004, 0.1
# A backend that runs ahead of its reader by this many chunks waits for it.
_READ_AHEAD = 1024


class Replica:
    """One replica of one model."""

    def __init__(self, config: ModelConfig) -> None:
        log_known_errors_in_one_line()
        self._backend = load(config)
        self._provider = Provider(config)
        self._sender = Sender(min(config.timeout, config.first_token_timeout))

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request`, in as few messages as may be; see `Sender`."""
        async with aclosing(self._sender.send(self._backend.chat(request), request)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except Unreachable as error:
                self._provider.explain(error)
                raise
        self._provider.reached()

    async def unreachable(self) -> str:
        """Why the model's provider can't be reached; "" where it can, as far as is known."""
        return await self._provider.unreachable()

    async def context_window(self) -> int | None:
        """See `Backend.context_window`."""
        return await self._backend.context_window()

    async def check_health(self) -> None:
        """Called by Ray Serve; a replica that raises is replaced."""
        await self._backend.check_health()

    async def __del__(self) -> None:
        # A replica whose constructor raised has no backend.
        if hasattr(self, "_backend"):
            await self._backend.aclose()


class Sender:
    """Sends the answers of one replica in as few messages as may be.

    A message costs about a millisecond of processors' time on its way to the client, in processes
    that all streams share with all other work. So each of n streams sends every 4n milliseconds at
    most, and after 100 in any case: one alone sends token by token, unless they come faster than
    anybody reads; of many, what comes faster than it could be sent leaves together. What begins or
    ends an answer waits for nothing. (docs/results.md says what was tried.)

    Args:
        silence: seconds after which the router gives up waiting.
    """

    def __init__(self, silence: float) -> None:
        # Often enough for the router to see that an answer which it waits for whole goes on.
        self._whole_gap = silence / 4
        self._streams = 0

    async def send(
        self, chunks: AsyncGenerator[Chunk, None], request: ChatRequest
    ) -> AsyncGenerator[Chunk, None]:
        """An answer as it leaves: streamed, soon; whole, in as few chunks as may be."""
        if not request.stream:
            pieces = coalesce(chunks, lambda: self._whole_gap, first=self._whole_gap)
        else:
            pieces = coalesce(chunks, lambda: min(self._streams * _GAP_S, _LONGEST_GAP_S))
        self._streams += request.stream
        try:
            async with aclosing(chunks), aclosing(pieces):
                async for piece in pieces:
                    yield piece
        finally:
            self._streams -= request.stream


async def coalesce(
    chunks: AsyncGenerator[Chunk, None], gap: Callable[[], float], *, first: float = 0.0
) -> AsyncGenerator[Chunk, None]:
    """Joins chunks, since each item costs a message between processes.

    Args:
        chunks: what the backend writes.
        gap: seconds that lie between two items, at least; the last one comes at once.
        first: seconds to wait for more before the first item is sent.
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
    now = asyncio.get_running_loop().time
    not_before = now() + first
    try:
        while True:
            items = [await queue.get()]
            with suppress(TimeoutError):
                # A time that is past takes what is there.
                async with asyncio.timeout_at(not_before):
                    while isinstance(items[-1], Chunk):
                        items.append(await queue.get())
            not_before = now() + gap()
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
