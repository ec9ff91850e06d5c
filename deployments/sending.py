"""Sends a backend's chunks between processes in as few messages as possible."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import ProviderError

# Seconds between two messages of a stream: per running stream, and at most.
_GAP_S, _LONGEST_GAP_S = 0.004, 0.1
# The most chunks that a backend may be ahead of its reader.
_READ_AHEAD = 1024


class Sender:
    """Sends the answers of one replica in as few messages as possible.

    On its way to the client, a message costs about a millisecond of CPU time in processes that all
    streams share. So with n streams, each sends a message every 4n milliseconds, or every 100 if
    that is sooner. A single stream thus sends token by token, and of many streams the tokens that
    arrive in between are sent together. The start and the end of an answer are never delayed.
    (docs/results.md has the measurements.)

    Args:
        silence: seconds after which the router gives up waiting.
    """

    def __init__(self, silence: float) -> None:
        # Often enough that the router sees progress while it waits for a whole answer.
        self._whole_gap = silence / 4
        self._streams = 0

    async def send(
        self, chunks: AsyncGenerator[Chunk, None], request: ChatRequest
    ) -> AsyncGenerator[Chunk, None]:
        """The answer in messages: frequent ones if it is streamed, otherwise as few as possible."""
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
    """Merges chunks, since each item costs a message between processes.

    Args:
        chunks: from the backend.
        gap: the least seconds between two items; the last one is not delayed.
        first: seconds to wait for more chunks before the first item.
    """
    queue: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue(_READ_AHEAD)

    async def read() -> None:
        try:
            async for chunk in chunks:
                await queue.put(chunk)
            await queue.put(None)
        except asyncio.CancelledError:
            # A library may have raised it, and then the reader is still waiting.
            with suppress(asyncio.QueueFull):
                queue.put_nowait(ProviderError("the backend cancelled the answer"))
            raise
        except Exception as error:  # noqa: BLE001 - any error is passed to the reader
            await queue.put(error)

    reading = asyncio.create_task(read())
    now = asyncio.get_running_loop().time
    not_before = now() + first
    try:
        while True:
            items = [await queue.get()]
            with suppress(TimeoutError):
                # If the time is past, this takes only what is already there.
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
        # The backend's stream can be closed only once nothing reads it.
        reading.cancel()
        await asyncio.wait([reading])
