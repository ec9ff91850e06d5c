"""Promise: every answer that ends teaches the store, and no answer is disturbed by that."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import cast

import numpy as np
import pytest

from deployments.contract import Chunk, Usage
from deployments.errors import ProviderError
from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation
from serve.actors import ActorUnavailable
from serve.dispatch.dispatcher import Dispatch
from serve.dispatch.rescue import Rescue
from serve.routing.prices import Price
from serve.smart.client import SharedDecider
from serve.smart.learning import Learner, Lesson, cost

PRICE = Price(1e-6, 2e-6)
CHUNKS = [Chunk(text="twel"), Chunk(text="ve", finish_reason="stop"), Chunk(usage=Usage(20, 3))]


class Decider:
    """In place of `SharedDecider`: keeps what it is sent."""

    def __init__(self, unavailable: bool = False) -> None:
        self.unavailable = unavailable
        self.learned: list[tuple[Observation, AnswerRecord]] = []

    def learn(self, observation: Observation, answer: AnswerRecord) -> Awaitable[None]:
        if self.unavailable:
            raise ActorUnavailable("the actor is being created")
        self.learned.append((observation, answer))
        return asyncio.sleep(0)


def learner(decider: Decider) -> Learner:
    return Learner(cast("SharedDecider", decider), {"small": "openai/gpt-small"})


def lesson() -> Lesson:
    return Lesson("id", "What is 7 plus 5?", 17, 0.9, "policy", PRICE)


class Written:
    """An answer on its way, as `Dispatch` gives it."""

    def __init__(self, chunks: list[Chunk], fails: bool = False) -> None:
        self.model = "small"
        self.started = time.monotonic()
        self.rescues: list[Rescue] = []
        self._chunks = self._written(chunks, fails)
        self.aclose = self._chunks.aclose

    def __aiter__(self) -> AsyncGenerator[Chunk, None]:
        return self._chunks

    async def _written(self, chunks: list[Chunk], fails: bool) -> AsyncGenerator[Chunk, None]:
        for chunk in chunks:
            yield chunk
        if fails:
            raise ProviderError("cut")


def written(chunks: list[Chunk], fails: bool = False, rescues: Sequence[Rescue] = ()) -> Dispatch:
    answer = Written(chunks, fails)
    answer.rescues.extend(rescues)
    return cast("Dispatch", answer)


def embedding() -> "asyncio.Future[Floats32 | None]":
    future: asyncio.Future[Floats32 | None] = asyncio.get_running_loop().create_future()
    future.set_result(np.ones(1, np.float32))
    return future


async def test_an_answer_is_unchanged_and_learned_from_before_it_ends() -> None:
    decider = Decider()
    chunks = learner(decider).follow(written(CHUNKS), lesson(), embedding())
    assert [chunk async for chunk in chunks] == CHUNKS
    ((observation, answer),) = decider.learned
    assert (observation.query, observation.model) == ("What is 7 plus 5?", "small")
    assert (observation.input_tokens, observation.output_tokens) == (20, 3)
    assert observation.characters == 17
    assert (answer.id, answer.predicted, answer.policy) == ("id", 0.9, "policy")
    assert answer.cost == pytest.approx(2.6e-5)
    assert observation.identity == answer.identity == "openai/gpt-small"


async def test_nothing_is_learned_from_an_answer_that_fails() -> None:
    decider = Decider()
    chunks = learner(decider).follow(written(CHUNKS[:1], fails=True), lesson(), embedding())
    with pytest.raises(ProviderError):
        [chunk async for chunk in chunks]
    assert decider.learned == []


async def test_nothing_is_learned_from_an_answer_by_two_models() -> None:
    decider = Decider()
    rescue = Rescue("large", "provider_error", 4, 0, "continued", 1, 0)
    chunks = learner(decider).follow(written(CHUNKS, rescues=[rescue]), lesson(), embedding())
    assert [chunk async for chunk in chunks] == CHUNKS
    assert decider.learned == []


@pytest.mark.parametrize(("read", "learned"), [(1, 0), (2, 1)])
async def test_a_client_that_leaves_after_the_finish_reason_does_not_prevent_learning(
    read: int, learned: int
) -> None:
    decider = Decider()
    chunks = learner(decider).follow(written(CHUNKS), lesson(), embedding())
    for _ in range(read):
        await anext(chunks)
    await chunks.aclose()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(decider.learned) == learned


async def test_the_time_of_a_slow_reader_does_not_count() -> None:
    decider = Decider()
    chunks = learner(decider).follow(written(CHUNKS), lesson(), embedding())
    async for _ in chunks:
        await asyncio.sleep(0.2)
    assert decider.learned[0][0].seconds is not None
    assert decider.learned[0][0].seconds < 0.2


async def test_an_unavailable_store_does_not_affect_answers() -> None:
    chunks = learner(Decider(unavailable=True)).follow(written(CHUNKS), lesson(), embedding())
    assert [chunk async for chunk in chunks] == CHUNKS


async def test_without_an_embedding_nothing_is_learned() -> None:
    decider = Decider()
    nothing: asyncio.Future[Floats32 | None] = asyncio.get_running_loop().create_future()
    nothing.set_result(None)
    chunks = learner(decider).follow(written(CHUNKS), lesson(), nothing)
    assert [chunk async for chunk in chunks] == CHUNKS
    assert decider.learned == []


def test_without_a_price_or_usage_there_is_no_cost() -> None:
    assert cost(None, Usage(1, 1)) is None
    assert cost(PRICE, None) is None
