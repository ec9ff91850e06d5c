"""Promise: a replica sends chunks at once, and merges them when the reader is slow."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from deployments.contract import ChatRequest, Chunk
from deployments.errors import ProviderError
from deployments.replicas.sending import Sender, coalesce


class Source:
    """Yields chunks "0", "1", …, pausing after the first, and notes whether it was closed."""

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


async def test_the_first_chunk_is_sent_at_once_and_the_rest_together() -> None:
    pieces = []
    async for piece in coalesce(Source(5).chunks(), lambda: 0):
        pieces.append(piece.text)
        await asyncio.sleep(0.1)  # a slow reader
    assert pieces == ["0", "1234"]


async def test_a_whole_answer_is_one_item_unless_it_takes_long() -> None:
    assert [piece.text async for piece in coalesce(Source(5).chunks(), lambda: 10, first=10)] == [
        "01234"
    ]
    soon = coalesce(Source(5).chunks(), lambda: 0.005, first=0.005)
    assert [piece.text async for piece in soon] == ["0", "1234"]


async def test_chunks_before_an_error_are_sent_before_it() -> None:
    pieces = []

    async def read() -> None:
        async for piece in coalesce(Source(3, ProviderError("broken")).chunks(), lambda: 0):
            pieces.append(piece.text)

    with pytest.raises(ProviderError, match="broken"):
        await read()
    assert "".join(pieces) == "012"


async def test_closing_the_reader_closes_the_source() -> None:
    """Even while waiting for the source, which can't be closed from outside then."""
    source = Source(10**9)

    async def read() -> None:
        async with (
            aclosing(source.chunks()) as chunks,
            aclosing(coalesce(chunks, lambda: 0)) as pieces,
        ):
            async for _ in pieces:
                await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert source.closed


STREAMED = ChatRequest.model_validate(
    {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
)


async def written(count: int, every_s: float) -> AsyncGenerator[Chunk, None]:
    """An answer at a steady pace."""
    for number in range(count):
        yield Chunk(text=str(number))
        await asyncio.sleep(every_s)


async def sent(sender: Sender, count: int, every_s: float) -> list[str]:
    """The items that such an answer is sent in."""
    pieces = sender.send(written(count, every_s), STREAMED)
    return [piece.text async for piece in pieces]


async def test_a_single_stream_is_sent_token_by_token() -> None:
    assert await sent(Sender(30), 5, every_s=0.03) == list("01234")


async def test_with_many_streams_fast_tokens_are_sent_together() -> None:
    sender = Sender(30)
    streams = await asyncio.gather(*(sent(sender, 10, every_s=0.002) for _ in range(100)))
    for pieces in streams:
        assert "".join(pieces) == "0123456789"
        assert pieces[0].startswith("0")
        assert len(pieces) < 10
    # Alone again, a stream sends each token again.
    assert await sent(sender, 5, every_s=0.03) == list("01234")


async def test_the_start_and_the_end_of_an_answer_are_not_delayed() -> None:
    async with asyncio.timeout(30):
        pieces = [piece.text async for piece in coalesce(written(3, 0.01), lambda: 60)]
    assert "".join(pieces) == "012"


async def test_a_long_answer_that_is_wanted_whole_is_read_without_pauses() -> None:
    """However far its chunks are ahead of the one message."""

    async def chunks(pausing: bool) -> AsyncGenerator[Chunk, None]:
        for _ in range(5000):
            yield Chunk(text="x")
            if pausing:
                await asyncio.sleep(0)

    for pausing in (True, False):
        async with asyncio.timeout(30):
            pieces = [p.text async for p in coalesce(chunks(pausing), lambda: 60, first=60)]
        assert pieces == ["x" * 5000]


async def test_progress_of_a_whole_answer_is_sent_while_the_model_pauses() -> None:
    async def chunks() -> AsyncGenerator[Chunk, None]:
        yield Chunk(text="a")
        await asyncio.sleep(30)

    async with (
        asyncio.timeout(10),
        aclosing(chunks()) as source,
        aclosing(coalesce(source, lambda: 0.05, first=0.05)) as pieces,
    ):
        assert (await anext(pieces)).text == "a"


async def test_a_backend_does_not_run_far_ahead_of_its_reader() -> None:
    read = 0

    async def chunks() -> AsyncGenerator[Chunk, None]:
        nonlocal read
        for _ in range(10_000):
            read += 1
            yield Chunk(text="x")

    async with aclosing(chunks()) as source, aclosing(coalesce(source, lambda: 0)) as pieces:
        first = await anext(pieces)
        await asyncio.sleep(0.05)
        assert read <= 3000
        rest = [piece.text async for piece in pieces]
    assert first.text + "".join(rest) == "x" * 10_000


async def test_a_library_that_cancels_the_answer_is_an_error() -> None:
    async def chunks() -> AsyncGenerator[Chunk, None]:
        yield Chunk(text="a")
        raise asyncio.CancelledError

    pieces = coalesce(chunks(), lambda: 0)
    with pytest.raises(ProviderError, match="cancelled"):
        async with asyncio.timeout(10):
            assert [piece.text async for piece in pieces] == ["a"]
