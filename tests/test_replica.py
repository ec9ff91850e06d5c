"""Promise: a replica sends what its model writes at once, joined when the reader is slow."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from deployments.contract import Chunk
from deployments.errors import ProviderError
from deployments.replica import coalesce


class Source:
    """Chunks "0", "1", … of which the first leaves alone; knows whether it was closed."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.closed = False
        self._count = count
        self._error = error

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        try:
            for number in range(self._count):
                yield Chunk(text=str(number))
                if number == 0:
                    await asyncio.sleep(0.05)
            if self._error:
                raise self._error
        finally:
            self.closed = True


async def test_the_first_leaves_at_once_and_the_rest_together() -> None:
    pieces = []
    async for piece in coalesce(Source(5).chunks(), pause=0):
        pieces.append(piece.text)
        await asyncio.sleep(0.1)  # a slow reader
    assert pieces == ["0", "1234"]


async def test_a_whole_answer_is_one_item_unless_it_takes_long() -> None:
    assert [piece.text async for piece in coalesce(Source(5).chunks(), pause=10)] == ["01234"]
    assert [piece.text async for piece in coalesce(Source(5).chunks(), pause=0.005)] == [
        "0",
        "1234",
    ]


async def test_what_came_before_an_error_is_sent_before_it() -> None:
    pieces = []

    async def read() -> None:
        async for piece in coalesce(Source(3, ProviderError("broken")).chunks(), pause=0):
            pieces.append(piece.text)

    with pytest.raises(ProviderError, match="broken"):
        await read()
    assert "".join(pieces) == "012"


async def test_a_reader_that_leaves_closes_the_source() -> None:
    """Also while the source is being waited for, where it can't be closed from outside."""
    source = Source(10**9)

    async def read() -> None:
        async with (
            aclosing(source.chunks()) as chunks,
            aclosing(coalesce(chunks, pause=0)) as pieces,
        ):
            async for _ in pieces:
                await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert source.closed
