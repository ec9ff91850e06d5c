"""Sends a backend's chunks between processes in as few messages as possible."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import ProviderError

# Seconds between two messages of a stream: per running stream, and at most.
_GAP_S, _LONGEST_GAP_S = 0.004, 0.1
# The most chunks that a backend may be ahead of its reader.
_READ_AHEAD = 1024


@dataclass(slots=True)
class Streams:
    """How many streams a replica is sending."""

    running: int = 0


class Sender:
    """Sends the answers of one replica in as few messages as possible.

    On its way to the client, a message costs about a millisecond of CPU time in processes that all
    streams share. So with n streams, each sends a message every 4n milliseconds, or every 100 if
    that is sooner. A single stream thus sends token by token, and of many streams the tokens that
    arrive in between are sent together. The start and the end of an answer are never delayed.
    (docs/results.md has the measurements.)

    Args:
        silence: seconds after which the router gives up waiting.
        streams: the running ones, if other models of the replica send, too.
    """

    def __init__(self, silence: float, streams: Streams | None = None) -> None:
        # Often enough that the router sees progress while it waits for a whole answer.
        self._whole_gap = silence / 4
        self._streams = streams or Streams()

    async def send(
        self, chunks: AsyncGenerator[Chunk, None], request: ChatRequest
    ) -> AsyncGenerator[Chunk, None]:
        """The answer in messages: frequent ones if it is streamed, otherwise as few as possible."""
        if not request.stream:
            pieces = coalesce(chunks, lambda: self._whole_gap, first=self._whole_gap)
        else:
            pieces = coalesce(chunks, lambda: min(self._streams.running * _GAP_S, _LONGEST_GAP_S))
        self._streams.running += request.stream
        try:
            async with aclosing(chunks), aclosing(pieces):
                async for piece in pieces:
                    yield piece
        finally:
            self._streams.running -= request.stream


async def coalesce(
    chunks: AsyncGenerator[Chunk, None], gap: Callable[[], float], *, first: float = 0.0
) -> AsyncGenerator[Chunk, None]:
    """Merges chunks, since each item costs a message between processes.

    Args:
        chunks: from the backend.
        gap: the least seconds between two items; the last one is not delayed.
        first: seconds to wait for more chunks before the first item.
    """
    inbox = _Inbox()
    reading = asyncio.create_task(inbox.read(chunks))
    now = asyncio.get_running_loop().time
    not_before = now() + first
    try:
        while True:
            await inbox.wait_for_a_chunk()
            await inbox.wait_for_the_end(not_before)
            not_before = now() + gap()
            ended, came = inbox.ended, inbox.take()
            if came:
                yield merge(came)
            if ended:
                break
        if inbox.error is not None:
            raise inbox.error
    finally:
        if not reading.done():
            # The backend's stream can be closed only once nothing reads it.
            reading.cancel()
            await asyncio.wait([reading])


class _Inbox:
    """The chunks that have come from a backend and are not sent yet.

    A task reads them, so that the sender can wait for a moment as well as for a chunk. It wakes
    the sender only for what that waits for: of many chunks that are sent together, for one.
    """

    def __init__(self) -> None:
        self.ended = False
        self.error: Exception | None = None
        self._came: list[Chunk] = []
        self._loop = asyncio.get_running_loop()
        self._sender: asyncio.Future[None] | None = None  # resolved when it needn't wait any more
        self._wants_a_chunk = False
        self._room: asyncio.Future[None] | None = None

    async def read(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        """Takes all chunks in."""
        try:
            async for chunk in chunks:
                self._came.append(chunk)
                if self._wants_a_chunk:
                    self._wake()
                if len(self._came) % _READ_AHEAD == 0:
                    await self._wait_for_room()
        except asyncio.CancelledError:
            # A library may have raised it, and then the sender is still waiting.
            self.error = ProviderError("the backend cancelled the answer")
            raise
        except Exception as error:  # noqa: BLE001 - any error is passed to the sender
            self.error = error
        finally:
            self.ended = True
            self._wake()

    def take(self) -> list[Chunk]:
        """All chunks that have come; there is room for more then."""
        came, self._came = self._came, []
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        return came

    async def wait_for_a_chunk(self) -> None:
        """Returns when there is a chunk to send, or no more will come."""
        if self._came or self.ended:
            return
        self._wants_a_chunk = True
        await self._wait()

    async def wait_for_the_end(self, at_most_until: float) -> None:
        """Returns when no more chunks will come, or at the given time of the loop's clock."""
        if self.ended or at_most_until <= self._loop.time():
            return
        timer = self._loop.call_at(at_most_until, self._wake)
        try:
            await self._wait()
        finally:
            timer.cancel()

    async def _wait(self) -> None:
        self._sender = self._loop.create_future()
        try:
            await self._sender
        finally:
            self._sender = None

    def _wake(self) -> None:
        self._wants_a_chunk = False
        if self._sender is not None and not self._sender.done():
            self._sender.set_result(None)

    async def _wait_for_room(self) -> None:
        if self._sender is not None:
            await asyncio.sleep(0)  # it may take the chunks now
            return
        self._room = self._loop.create_future()
        await self._room
