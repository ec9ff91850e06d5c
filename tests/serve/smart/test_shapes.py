"""Promise: what an answer of one shape teaches of lengths counts for requests of that shape alone,
from the answer to the next decision."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from keepers import IDENTITIES, PRICES, Embedder, published, question, ready, started, until, vector
from keepers import history as past
from written_answers import written

from deployments.contract import ChatRequest, Chunk, Usage
from deployments.embedding.cache import CachedEmbedder
from deployments.messages import UserMessage
from deployments.store.observations import Learned
from serve.routing.decider import Decider
from serve.routing.strategy import Ranking
from serve.smart import keeper as module
from serve.smart.client import SharedStore
from serve.smart.keeper import Keeper
from serve.smart.learning import Learner, Lesson

JSON = {"response_format": {"type": "json_object"}}
TOOLS = {"tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}]}


@pytest.fixture
async def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Keeper]:
    """That of a store whose answers are plain ones of 9 tokens."""
    monkeypatch.setattr(module, "_TICK_S", 0.01)
    keeper, _ = started(tmp_path, past(tmp_path))
    await ready(keeper)
    yield keeper
    await keeper.close()


class Store:
    """In place of `SharedStore`: tells a keeper's store, as the actor does."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    async def learn(self, items: Sequence[Learned]) -> int:
        assert self._keeper.store is not None
        for item in items:
            await asyncio.wrap_future(self._keeper.store.observe(item))
        return 0


def chat(text: str, **more: Any) -> ChatRequest:
    return ChatRequest(model="auto", messages=[UserMessage(role="user", content=text)], **more)


async def learned(keeper: Keeper, text: str, tokens: int, times: int = 1, **more: Any) -> None:
    """The small model has given answers of this length, and the next copy says so."""
    learner = Learner(cast("SharedStore", Store(keeper)), CachedEmbedder(Embedder()), IDENTITIES)
    ranking = Ranking(list(PRICES))
    for number in range(times):
        asked = question(f"{text} {number}", chat=chat(text, **more))
        lesson = Lesson.of(f"{text} {number}", asked, ranking, "small", PRICES["small"])
        chunks = [Chunk(text="{}", finish_reason="stop", usage=Usage(20, tokens))]
        async for _ in learner.follow(written(chunks), lesson):
            pass
    await learner.flush()
    await until(
        lambda: keeper.manifest and [known.count for known in keeper.manifest.lengths] == [times]
    )


def decided(keeper: Keeper, text: str, **more: Any) -> Ranking:
    """What a router decides by the latest copy."""
    decider, manifest = Decider(published(keeper), PRICES), keeper.manifest
    assert manifest is not None
    decider.use(decider.forecaster(lengths=manifest.lengths_of(list(IDENTITIES.items()))))
    return decider.decide(question(text, chat=chat(text, **more)), vector(text))


@pytest.mark.parametrize("shape", [JSON, TOOLS], ids=["json", "tools"])
async def test_one_long_answer_of_another_shape_leaves_the_cost_of_the_next_plain_one(
    keeper: Keeper, shape: dict[str, Any]
) -> None:
    before = decided(keeper, "easy one")
    await learned(keeper, "easy one", 2000, **shape)
    after = decided(keeper, "easy one")
    assert after.models == before.models
    assert after.cost == pytest.approx(before.cost)
    assert decided(keeper, "easy one", **shape).cost["small"] > 5 * before.cost["small"]


async def test_lengths_of_json_answers_are_predicted_from_json_answers(keeper: Keeper) -> None:
    await learned(keeper, "easy one", 90, times=30, **JSON)
    lengths = decided(keeper, "hard one", **JSON).output_tokens
    assert lengths["small"] == pytest.approx(90, rel=0.1)
    assert lengths["large"] == pytest.approx(90, rel=0.2)  # whose plain answers are as long
    assert decided(keeper, "hard one").output_tokens["small"] == pytest.approx(9, rel=0.1)
    assert decided(keeper, "hard one", **TOOLS).output_tokens["small"] == pytest.approx(9, rel=0.1)
    assert decided(keeper, "hard one", **JSON, max_tokens=5).output_tokens["small"] == 5


async def test_the_score_of_a_json_answer_counts_for_plain_requests(keeper: Keeper) -> None:
    before = decided(keeper, "hard one").quality["small"]
    await learned(keeper, "hard one", 90, times=10, **JSON)
    assert keeper.store is not None
    for number in range(10):
        await asyncio.wrap_future(keeper.store.score(f"hard one {number}", 1.0))
    await until(lambda: decided(keeper, "hard one 0").quality["small"] > before + 0.05)
