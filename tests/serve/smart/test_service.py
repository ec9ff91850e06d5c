"""Promise: a router's parts work together, and none that fails stops the others."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from keepers import until
from ray.exceptions import RayError
from ray.serve.handle import DeploymentHandle
from recorded import Recorded
from scripted_models import END, REQUEST, Models, says

from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.contract import ChatRequest, Chunk
from deployments.errors import InvalidRequest, ModelUnavailable
from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Learned, Scored
from serve.actors import ActorUnavailable
from serve.config import RouterConfig, ScoringConfig, StoreConfig
from serve.dispatch.dispatcher import Dispatch
from serve.routing.forecast.changes import Change
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Question
from serve.smart import service as module
from serve.smart.actor import Feedback
from serve.smart.learning import Lesson
from serve.smart.service import Smart

MODELS = {
    name: EndpointConfig(name=name, backend="vllm", hostname="http://127.0.0.1:9")
    for name in ("small", "large")
}
PRICES = {"small": Price(1e-7, 4e-7), "large": Price(3e-6, 1.2e-5)}
BOTH = tuple(PRICES)


class Store:
    """In place of `SharedStore`: notes what it is asked, in order; can be away."""

    def __init__(self) -> None:
        self.away = False
        self.asked: list[str] = []
        self.answers: set[str] = set()
        self.rated: list[tuple[str, float]] = []

    def configure(self, *args: object) -> None:
        self.asked.append("configure")

    async def exchange(self, *args: object) -> None:
        raise ActorUnavailable("the actor is being created")

    async def learn(self, items: Sequence[Learned]) -> int:
        self._ask("learn")
        pairs = [item for item in items if isinstance(item, tuple)]
        self.answers |= {answer.id for _, answer in pairs if isinstance(answer, AnswerRecord)}
        return 0

    async def rate(self, id: str, score: float) -> Feedback:
        self._ask("rate")
        self.rated.append((id, score))
        return Feedback(Scored("small", 0.5, None, None), None)

    async def feedback(
        self, id: str, score: float, key: str | None, bounded: bool
    ) -> Feedback | None:
        self._ask("feedback")
        if id not in self.answers:
            return None
        if key == "loud":
            return Feedback(None, None)
        return Feedback(Scored("small", 0.5, None, None), Change("small", -0.1, 300, 0.0))

    async def status(self, timeout_s: float) -> dict[str, Any]:
        self._ask("status")
        return {"status": "ready", "message": ""}

    def retire(self) -> None:
        self.asked.append("retire")

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.away:
            raise ActorUnavailable("the actor is being created")


class Embedder:
    """In place of the deployment's handle: embeds all texts alike, or fails."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0

    async def remote(self, texts: list[str]) -> Floats32:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return np.eye(384, dtype=np.float32)[[0] * len(texts)]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    store = Store()
    monkeypatch.setattr(module, "SharedStore", lambda *args: store)
    monkeypatch.setattr(module, "server_name", lambda: "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return store


async def started(embedder: Embedder) -> Smart:
    handle = cast("DeploymentHandle[Any]", embedder)
    smart = Smart(MODELS, StoreConfig(url="sqlite://"), handle)
    await smart.configure(RouterConfig(strategy="smart"), PRICES)
    return smart


class Written:
    """An answer on its way, as `Dispatch` gives it."""

    def __init__(self) -> None:
        self.model, self.started, self.rescues = "small", time.monotonic(), ()
        self._chunks = self._written()
        self.aclose = self._chunks.aclose

    def __aiter__(self) -> AsyncGenerator[Chunk, None]:
        return self._chunks

    async def _written(self) -> AsyncGenerator[Chunk, None]:
        yield Chunk(text="Yes.", finish_reason="stop")


async def answered(smart: Smart, id: str, request: ChatRequest | None = None) -> None:
    """An answer with this id ends."""
    lesson = Lesson(id, "Is it?", 6, 0.5, None, PRICES["small"])
    async for _ in smart.learner.follow(cast("Dispatch", Written()), lesson, request):
        pass


def question(query: str = "Why?") -> Question:
    return Question(candidates=BOTH, available=BOTH, query=query, requirement=0.5)


async def test_feedback_finds_an_answer_that_has_just_ended(store: Store) -> None:
    smart, recorded = await started(Embedder()), Recorded()
    await answered(smart, "just now")
    assert await smart.feedback("just now", 1.0)
    assert recorded("llm_forecast_quality_sum", model="small", source="actual") == 1.0
    assert recorded("llm_forecast_quality_sum", model="small", source="predicted") == 0.5
    assert recorded("llm_quality_changes_total", model="small", direction="worse") == 1.0
    assert store.asked == ["configure", "learn", "feedback"]
    assert await smart.feedback("another", 1.0) is None
    smart.retire()


async def test_feedback_that_is_not_learned_counts_nowhere(store: Store) -> None:
    smart, recorded = await started(Embedder()), Recorded()
    await answered(smart, "id")
    assert await smart.feedback("id", 1.0, "loud") is False
    assert recorded("llm_forecast_quality_sum", model="small", source="actual") == 0.0
    smart.retire()


async def test_a_judges_score_is_learned_like_feedback(store: Store) -> None:
    smart, recorded = await started(Embedder()), Recorded()
    models = Models(small=[says("Yes.", END)], large=[says("Score: 4", END)])
    smart.judge_by(models.dispatcher)
    scoring = ScoringConfig(judge="large", share=1)
    await smart.configure(RouterConfig(strategy="smart", scoring=scoring), PRICES)
    await answered(smart, "id", REQUEST)
    await until(lambda: store.rated)
    assert store.rated == [("id", 0.4)]
    assert store.asked[-2:] == ["learn", "rate"]
    assert recorded("llm_forecast_quality_sum", model="small", source="actual") == pytest.approx(
        0.4
    )
    smart.retire()


async def test_feedback_says_so_while_the_store_is_away(store: Store) -> None:
    smart = await started(Embedder())
    await answered(smart, "id")
    store.away = True
    with pytest.raises(ModelUnavailable, match="try again"):
        await smart.feedback("id", 1.0)
    store.away = False
    assert await smart.feedback("id", 1.0)
    smart.retire()


@pytest.mark.parametrize("error", [RayError("no replica"), OSError("no room for the model")])
async def test_decisions_go_on_without_the_store_and_without_embeddings(
    store: Store, error: Exception
) -> None:
    store.away = True
    embedder = Embedder()
    embedder.error = error
    smart = await started(embedder)
    for query in ("one", "another", ""):
        assert (await smart.decide(question(query))).models == ["small", "large"]
    assert embedder.calls == 1  # then it is left alone for a while
    smart.retire()


async def test_a_router_is_ready_once_it_has_a_copy_of_the_store(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    smart = await started(Embedder())
    assert (await smart.status(1.0))["status"] == "loading"
    monkeypatch.setattr(type(smart._decisions), "has_copy", True)
    statuses = await asyncio.gather(*(smart.status(1.0) for _ in range(10)))
    assert {status["status"] for status in statuses} == {"ready"}
    assert store.asked.count("status") == 1  # callers without a key may ask, so not each time
    smart.retire()


async def test_that_the_store_is_away_is_its_state(store: Store) -> None:
    smart = await started(Embedder())
    store.away = True
    assert await smart.status(1.0) == {"status": "away", "message": "the actor is being created"}
    smart.retire()


async def test_a_batch_that_can_not_be_decided_says_why(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Embedder()
    smart = await started(embedder)
    batch = BatchQuestion(["Why?", "How?"], [BOTH, BOTH], 0.5, capacities={"small": 0, "large": 1})
    with pytest.raises(InvalidRequest) as refused:
        await smart.route(batch)
    assert refused.value.param == "capacities"
    monkeypatch.setattr("serve.smart.decisions._MOST_WAITING", 0)
    with pytest.raises(ModelUnavailable):
        await smart.route(batch)
    for error in (RayError("no replica"), OSError("no room for the model")):
        embedder.error = error
        with pytest.raises(ModelUnavailable):
            await smart.route(BatchQuestion(["When?"], [BOTH], 0.5))
    smart.retire()


async def test_what_has_just_ended_is_learned_when_the_router_stops(store: Store) -> None:
    smart = await started(Embedder())
    await answered(smart, "id")
    await smart.close()
    assert store.answers == {"id"}
    await answered(smart, "other")
    store.away = True
    await smart.close()  # in time, whether or not the store is there
    smart.retire()
