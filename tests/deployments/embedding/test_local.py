"""Promise: a process that embeds by itself goes on with other work meanwhile."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from deployments.embedding.encoder import Encoder
from deployments.embedding.local import LocalEmbedder
from deployments.store.evidence import Floats32


class Held(Encoder):
    """Embeds a text as its length, once it is let go; notes which texts it has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.begun: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> Floats32:
        self.begun.append(list(texts))
        assert self.go.wait(30)
        return np.array([[len(text)] for text in texts], np.float32).reshape(len(texts), 1)


@pytest.fixture
def held() -> Held:
    return Held()


async def begun(held: Held, calls: int = 1) -> None:
    async with asyncio.timeout(30):
        while len(held.begun) < calls:  # noqa: ASYNC110 - it begins in a thread
            await asyncio.sleep(0.001)


async def test_embeddings_are_the_encoders() -> None:
    embed = LocalEmbedder(Encoder())
    texts = ["How do I reverse a list?", "", "東京"]
    assert np.array_equal(await embed(texts), Encoder()(texts))
    assert (await embed([])).shape == (0, 384)


async def test_the_event_loop_goes_on_while_a_text_is_embedded(held: Held) -> None:
    embed = LocalEmbedder(held)
    answer = asyncio.ensure_future(embed(["one"]))
    await begun(held)  # the loop turns meanwhile
    assert not answer.done()
    held.go.set()
    assert (await answer).tolist() == [[3]]


async def test_a_call_of_many_texts_lets_others_through(held: Held) -> None:
    embed = LocalEmbedder(held)
    many = asyncio.ensure_future(embed(["a"] * 100))
    await begun(held)
    one = asyncio.ensure_future(embed(["bb"]))
    await asyncio.sleep(0)
    held.go.set()
    assert (await one).tolist() == [[2]]
    assert (await many).tolist() == [[1]] * 100
    assert held.begun.index(["bb"]) == 1  # after the text that had begun


async def test_a_model_that_does_not_exist_is_said_to_each_caller() -> None:
    embed = LocalEmbedder(Encoder("/no/such/model"))
    for _ in range(2):
        with pytest.raises(ValueError, match="/no/such/model"):
            await embed(["one"])
