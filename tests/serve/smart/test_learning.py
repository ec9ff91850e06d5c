"""Promise: every answer that ends reaches the store once, and no answer is disturbed by that."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from keepers import D, Embedder, until
from recorded import Recorded
from written_answers import written

from deployments.answer import FinishReason
from deployments.contract import Chunk, Usage
from deployments.embedding.cache import CachedEmbedder
from deployments.errors import ProviderError
from deployments.store.observations import AnswerRecord, Learned, Observation
from deployments.store.sql.database import Database
from serve.actors import ActorUnavailable
from serve.dispatch.rescue import Rescue
from serve.routing.prices import Price
from serve.routing.strategy import Question
from serve.smart import learning as module
from serve.smart.client import SharedStore
from serve.smart.learning import Learner, Lesson, cost

PRICE = Price(1e-6, 2e-6)
CHUNKS = [Chunk(text="twel"), Chunk(text="ve", finish_reason="stop"), Chunk(usage=Usage(20, 3))]
QUERY = "What is 7 plus 5?"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PERIOD_S", "_RETRY_S"):
        monkeypatch.setattr(module, name, 0.01)


class Store:
    """In place of `SharedStore`: keeps what it is sent."""

    def __init__(self, takes: Callable[[Sequence[Learned]], object] = len) -> None:
        self.away = False
        self.batches: list[list[Learned]] = []
        self._takes = takes

    @property
    def items(self) -> list[Learned]:
        return [item for batch in self.batches for item in batch]

    async def learn(self, items: Sequence[Learned]) -> int:
        if self.away:
            raise ActorUnavailable("the actor is being created")
        self.batches.append(list(items))
        self._takes(items)
        return 0


def learner(store: Store, embedder: Embedder | None = None) -> Learner:
    embed = CachedEmbedder(embedder or Embedder())
    return Learner(cast("SharedStore", store), embed, {"small": "openai/gpt-small"})


def lesson(id: str = "id", query: str = QUERY, **known: Any) -> Lesson:
    return Lesson(id, query, 17, 0.9, "policy", PRICE, **known)


async def answered(learner: Learner, number: int, first: int = 0) -> None:
    """So many answers end, to queries of their own."""
    for n in range(first, first + number):
        async for _ in learner.follow(written(CHUNKS), lesson(f"id {n}", f"question {n}")):
            pass


def ids(items: Sequence[Learned]) -> list[str]:
    answers = [item[1] if isinstance(item, tuple) else item for item in items]
    return [answer.id for answer in answers if isinstance(answer, AnswerRecord)]


def whole(items: Sequence[Learned]) -> list[tuple[Observation, AnswerRecord]]:
    """Those that come with their queries."""
    return [item for item in items if isinstance(item, tuple)]


async def test_an_answer_is_unchanged_and_learned_from_after_it_has_ended() -> None:
    store = Store()
    chunks = learner(store).follow(written(CHUNKS), lesson())
    assert [chunk async for chunk in chunks] == CHUNKS
    await until(lambda: store.items)
    ((observation, answer),) = whole(store.items)
    assert (observation.query, observation.model) == (QUERY, "small")
    assert (observation.input_tokens, observation.output_tokens) == (20, 3)
    assert observation.characters == 17
    assert (answer.id, answer.predicted, answer.policy) == ("id", 0.9, "policy")
    assert answer.cost == pytest.approx(2.6e-5)
    assert observation.identity == answer.identity == "openai/gpt-small"


@pytest.mark.parametrize(
    ("limit", "finish", "learned"),
    [(3, "length", None), (5, "stop", 3), (None, "length", 3)],
    ids=["cut by the caller", "whole below the limit", "cut by the model"],
)
async def test_an_answer_that_its_callers_limit_cut_teaches_no_length(
    limit: int | None, finish: FinishReason, learned: float | None
) -> None:
    store = Store()
    chunks = [Chunk(text="twel", finish_reason=finish), Chunk(usage=Usage(20, 3))]
    async for _ in learner(store).follow(written(chunks), lesson(limit=limit)):
        pass
    await until(lambda: store.items)
    ((observation, answer),) = whole(store.items)
    assert observation.output_tokens == learned
    assert (observation.seconds is None) == (learned is None)
    assert answer.cost == pytest.approx(20 * 1e-6 + 3 * 2e-6)


async def test_an_answer_is_learned_with_its_shape_and_how_its_model_came_to_write_it() -> None:
    store = Store()
    learns = learner(store)
    for taught in (lesson("a"), lesson("b", shape="json", chosen=False)):
        async for _ in learns.follow(written(CHUNKS), taught):
            pass
    await learns.flush()
    (plain, first), (json, other) = whole(store.items)
    assert (plain.shape, first.chosen) == ("text", True)
    assert (json.shape, other.chosen) == ("json", False)


async def test_a_probes_answer_teaches_what_it_said_but_can_get_no_feedback() -> None:
    store, asked = Store(), Question(candidates=["small"], available=["small"], query=QUERY)
    learns = learner(store)
    answer = Chunk(text="12", finish_reason="stop", usage=Usage(20, 3))
    learns.learn_probe(Lesson.of_probe(asked, said=7), "small", answer, seconds=0.5)
    await learns.flush()
    (seen,) = store.items
    assert isinstance(seen, Observation)
    assert (seen.query, seen.model, seen.said) == (QUERY, "small", 7)
    assert (seen.output_tokens, seen.seconds) == (3, 0.5)


async def test_under_load_a_sample_of_the_probes_answers_is_learned() -> None:
    store, asked = Store(), Question(candidates=["small"], available=["small"], query=QUERY)
    learns = learner(store)
    answer = Chunk(text="12", finish_reason="stop", usage=Usage(20, 3))
    for _ in range(500):
        learns.learn_probe(Lesson.of_probe(asked, said=7), "small", answer, seconds=0.5)
    await learns.flush()
    assert 0 < len(store.items) < 100


async def test_answers_go_to_the_store_in_batches() -> None:
    store = Store()
    learns = learner(store)
    await answered(learns, 20)
    await until(lambda: store.items)
    await answered(learns, 3, first=20)
    await until(lambda: len(store.items) == 23)
    assert [len(batch) for batch in store.batches] == [20, 3]


async def test_nothing_is_learned_from_an_answer_that_fails() -> None:
    store = Store()
    learns = learner(store)
    with pytest.raises(ProviderError):
        [chunk async for chunk in learns.follow(written(CHUNKS[:1], fails=True), lesson())]
    await learns.flush()
    assert store.items == []


async def test_nothing_is_learned_from_an_answer_by_two_models() -> None:
    store = Store()
    learns = learner(store)
    rescue = Rescue("large", "provider_error", 4, 0, "continued", 1, 0)
    chunks = learns.follow(written(CHUNKS, rescues=[rescue]), lesson())
    assert [chunk async for chunk in chunks] == CHUNKS
    await learns.flush()
    assert store.items == []


@pytest.mark.parametrize(("read", "learned"), [(1, 0), (2, 1)])
async def test_a_client_that_leaves_after_the_finish_reason_does_not_prevent_learning(
    read: int, learned: int
) -> None:
    store = Store()
    learns = learner(store)
    chunks = learns.follow(written(CHUNKS), lesson())
    for _ in range(read):
        await anext(chunks)
    await chunks.aclose()
    await learns.flush()
    assert len(store.items) == learned


async def test_the_time_of_a_slow_reader_does_not_count() -> None:
    store = Store()
    learns = learner(store)
    async for _ in learns.follow(written(CHUNKS), lesson()):
        await asyncio.sleep(0.2)
    await learns.flush()
    ((observation, _),) = whole(store.items)
    assert observation.seconds is not None
    assert observation.seconds < 0.2


async def test_more_than_a_sample_each_second_is_recorded_but_not_learned_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    store, embedder = Store(), Embedder()
    learns = learner(store, embedder)
    sizes = []
    for seconds in (0.0, 0.25, 60.0):
        now += seconds
        await answered(learns, 100, first=len(store.items))
        await learns.flush()
        sizes.append(len(whole(store.batches[-1])))
    assert sizes == [32, 8, 32]  # a pause earns no more than a second's
    assert embedder.texts == 72
    assert ids(store.items) == [f"id {n}" for n in range(300)]


async def test_answers_wait_for_a_store_that_is_away() -> None:
    store = Store()
    store.away = True
    learns = learner(store)
    await answered(learns, 3)
    with pytest.raises(ActorUnavailable):
        await learns.flush()
    await answered(learns, 2, first=3)
    store.away = False
    await until(lambda: store.items)
    assert ids(store.items) == [f"id {n}" for n in range(5)]


async def test_an_answer_that_is_sent_again_counts_once(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/store.db", "encoder", D)

    def lost_reply(items: Sequence[Learned]) -> None:
        database.write(items)
        if len(store.batches) == 1:
            raise ActorUnavailable("the actor died")

    store = Store(lost_reply)
    learns = learner(store)
    await answered(learns, 50)
    await until(lambda: len(store.batches) == 2)
    assert ids(store.items[:50]) == ids(store.items[50:])
    rows = database.read(list(database.ids()))
    assert {row.outcomes["small"].count for row in rows} == {1}
    assert len(database.score([(f"id {n}", 1.0) for n in range(50)])) == 50
    database.close()


async def test_of_too_many_waiting_answers_the_oldest_are_lost_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 3)
    store, recorded = Store(), Recorded()
    store.away = True
    learns = learner(store)
    await answered(learns, 4)
    with pytest.raises(ActorUnavailable):
        await learns.flush()
    await answered(learns, 1, first=4)
    assert recorded("llm_lessons_lost_total") == 2
    store.away = False
    await learns.flush()
    assert ids(store.items) == ["id 2", "id 3", "id 4"]
    assert recorded("llm_lessons_lost_total") == 2


async def test_without_an_embedder_answers_are_recorded_all_the_same() -> None:
    store, embedder = Store(), Embedder()
    embedder.error = OSError("no room for it")
    learns = learner(store, embedder)
    await answered(learns, 3)
    await learns.flush()
    assert (ids(store.items), whole(store.items)) == (["id 0", "id 1", "id 2"], [])


async def test_impossible_counts_of_a_provider_do_not_hold_up_other_answers() -> None:
    store = Store()
    learns = learner(store)
    chunks = [CHUNKS[1], Chunk(usage=Usage(20, -1))]
    assert [chunk async for chunk in learns.follow(written(chunks), lesson("odd"))] == chunks
    await answered(learns, 1)
    await learns.flush()
    assert ids(store.items) == ["odd", "id 0"]
    assert ids(whole(store.items)) == ["id 0"]


async def test_whatever_goes_wrong_with_the_store_learning_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.01)

    def odd(items: Sequence[Learned]) -> None:
        if len(store.batches) == 1:
            raise TypeError("not to be pickled")

    store = Store(odd)
    learns = learner(store)
    await answered(learns, 2)
    await until(lambda: len(store.batches) == 2)
    assert ids(store.items[2:]) == ["id 0", "id 1"]


def test_without_a_price_or_usage_there_is_no_cost() -> None:
    assert cost(None, Usage(1, 1)) is None
    assert cost(PRICE, None) is None
