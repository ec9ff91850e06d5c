"""Promise: a recent text is not embedded again, and texts in flight are embedded once."""

import asyncio

import numpy as np
import pytest

from deployments.embedding.cache import CachedEmbedder


class Counting:
    """Embeds a text as its length; can be held up, and records its calls."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.begun = asyncio.Event()
        self.calls: list[list[str]] = []
        self.error: BaseException | None = None

    async def __call__(self, texts: list[str]) -> np.ndarray:
        self.calls.append(texts)
        self.begun.set()
        await self.go.wait()
        if self.error:
            raise self.error
        return np.array([[len(text)] for text in texts], np.float32).reshape(len(texts), 1)


async def test_a_recent_text_is_not_embedded_again() -> None:
    embed = Counting()
    cached = CachedEmbedder(embed)
    assert (await cached(["a", "bb", "a"])).tolist() == [[1], [2], [1]]
    assert (await cached(["bb", "ccc"])).tolist() == [[2], [3]]
    assert embed.calls == [["a", "bb"], ["ccc"]]


async def test_the_most_recently_used_are_kept() -> None:
    embed = Counting()
    cached = CachedEmbedder(embed, size=2)
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        await cached([text])
    assert embed.calls == [["a"], ["bb"], ["ccc"], ["bb"]]


async def test_a_text_that_is_looked_up_counts_as_used() -> None:
    cached = CachedEmbedder(Counting(), size=2)
    assert cached.recent("a") is None
    for text in ("a", "bb"):
        await cached([text])
    found = cached.recent("a")
    assert found is not None
    assert found.tolist() == [1]
    await cached(["ccc"])
    assert cached.recent("a") is not None
    assert cached.recent("bb") is None


async def test_a_list_longer_than_the_cache_is_embedded_whole() -> None:
    texts = ["x" * length for length in range(100)]
    answer = await CachedEmbedder(Counting(), size=3)(texts)
    assert answer[:, 0].tolist() == list(range(100))


async def test_equal_texts_in_flight_are_embedded_once_and_one_caller_may_cancel() -> None:
    embed = Counting()
    embed.go.clear()
    cached = CachedEmbedder(embed)
    first, second = (asyncio.ensure_future(cached(["a"])) for _ in range(2))
    await embed.begun.wait()
    first.cancel()
    await asyncio.wait([first])
    embed.go.set()
    assert (await second).tolist() == [[1]]
    assert embed.calls == [["a"]]


async def test_texts_without_waiting_callers_are_cancelled() -> None:
    embed = Counting()
    embed.go.clear()
    cached = CachedEmbedder(embed)
    many = ["x" * length for length in range(1000)]
    waiter = asyncio.ensure_future(cached(many))
    await embed.begun.wait()
    waiter.cancel()
    await asyncio.wait([waiter])
    embed.go.set()
    assert (await cached(["a"])).tolist() == [[1]]
    assert sum(map(len, embed.calls)) < 200


async def test_an_error_is_not_cached() -> None:
    embed = Counting()
    embed.error = OSError("away")
    cached = CachedEmbedder(embed)
    with pytest.raises(OSError, match="away"):
        await cached(["a"])
    embed.error = None
    assert (await cached(["a"])).tolist() == [[1]]


@pytest.mark.parametrize("texts", [["a"], []])
async def test_a_call_that_is_cancelled_elsewhere_is_an_error_to_those_who_are_not(
    texts: list[str],
) -> None:
    embed = Counting()
    embed.error = asyncio.CancelledError()
    with pytest.raises(RuntimeError, match="cancelled"):
        await CachedEmbedder(embed)(texts)
