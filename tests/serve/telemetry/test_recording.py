"""Promise: what the routers do with requests is counted and measured."""

import asyncio
from collections.abc import Sequence

import pytest
from recorded import Recorded
from scripted_models import END, IMPATIENT, REQUEST, STREAMED, Models, continues, says

from deployments.contract import Usage
from deployments.errors import LLMError, ProviderError, Unreachable
from deployments.telemetry.instruments import ACTOR_FALLBACKS
from serve.access.keys import Caller
from serve.request import Request
from serve.routing.prices import Price
from serve.routing.strategy import Question, Ranking
from serve.telemetry.answers import MeasuredAnswer
from serve.telemetry.calls import MeasuredCall, counted


def in_flight(recorded: Recorded, state: str, deployment: str = "a") -> float:
    return recorded("llm_requests_in_flight", deployment=deployment, state=state)


def attempts(recorded: Recorded, model: str, outcome: str) -> float:
    return recorded("llm_attempts_total", model=model, outcome=outcome)


async def test_a_call_is_queued_until_a_replica_accepts_it_and_ongoing_until_it_ends() -> None:
    recorded, models = Recorded(), Models(a=[says("one", "two", END, pause=0.02)])
    models.queued_s = 0.05
    answer = asyncio.ensure_future(models.send(STREAMED))
    await asyncio.sleep(0.01)
    assert (in_flight(recorded, "queued"), in_flight(recorded, "ongoing")) == (1, 0)
    dispatch = await answer
    assert (in_flight(recorded, "queued"), in_flight(recorded, "ongoing")) == (0, 1)
    assert [chunk.text async for chunk in dispatch] == ["one", "two", ""]
    assert (in_flight(recorded, "queued"), in_flight(recorded, "ongoing")) == (0, 0)


async def test_calls_are_measured_as_opentelemetry_has_it() -> None:
    recorded, models = Recorded(), Models(a=[says("one", END)])
    call = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "x",
        "gen_ai_request_model": "a",
        "gen_ai_response_model": "a",
    }
    for request in (REQUEST, STREAMED):
        await models.answer(request)
    duration = "gen_ai_client_operation_duration_seconds_count"
    assert recorded(duration, **call, error_type="") == 2
    first_chunk = "gen_ai_client_operation_time_to_first_chunk_seconds_count"
    assert recorded(first_chunk, **call) == 1, "only of streams"
    usage = "gen_ai_client_token_usage_sum"
    assert recorded(usage, **call, gen_ai_token_type="input") == 10
    assert recorded(usage, **call, gen_ai_token_type="output") == 6


async def test_failed_and_cancelled_calls_are_counted_by_how_they_ended() -> None:
    recorded = Recorded()
    models = Models(a=[says(Unreachable("no route"))], b=[says("one", END)])
    await models.answer()
    assert attempts(recorded, "a", "provider_unreachable") >= 1
    assert attempts(recorded, "b", "answered") == 1
    duration = "gen_ai_client_operation_duration_seconds_count"
    failed = {"gen_ai_request_model": "a", "gen_ai_response_model": ""}
    assert recorded(duration, **failed, error_type="provider_unreachable") >= 1
    dispatch = await models.send(STREAMED)
    await dispatch.aclose()
    assert attempts(recorded, "b", "cancelled") == 1
    for model in "ab":
        assert in_flight(recorded, "queued", model) == in_flight(recorded, "ongoing", model) == 0


async def test_a_call_that_no_replica_accepts_leaves_nothing_in_flight() -> None:
    recorded, models = Recorded(), Models(IMPATIENT, a=[says("one", END)])
    models.queued_s = 10
    with pytest.raises(LLMError):
        await models.answer()
    assert attempts(recorded, "a", "overloaded") >= 1
    assert (in_flight(recorded, "queued"), in_flight(recorded, "ongoing")) == (0, 0)


async def test_a_call_ends_even_if_it_cant_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(self: MeasuredCall, outcome: str) -> None:
        raise ValueError("a counter can't be below zero")

    monkeypatch.setattr(MeasuredCall, "end", end)
    models = Models(a=[says("one", "two", END)])
    dispatch = await models.send(STREAMED)
    with pytest.raises(ValueError, match="below zero"):
        await dispatch.aclose()
    assert models.responses[0].left, "the model stops generating"


async def test_a_rescue_is_counted_for_the_model_that_broke_off() -> None:
    recorded = Recorded()
    models = Models(a=[says("one ", ProviderError("cut"))], b=[continues("one two")])
    await models.answer(STREAMED)
    assert recorded("llm_rescues_total", model="a", mode="continued") == 1


async def test_an_open_circuit_is_shown_until_its_model_answers() -> None:
    recorded, models = Recorded(), Models(a=[says(ProviderError("down"))])
    while not models.circuits.is_open("a"):
        models.circuits.failed("a", ProviderError("down"))
    assert recorded("llm_circuits_open", model="a") == 1
    models.circuits.answered("a")
    assert recorded("llm_circuits_open", model="a") == 0


@pytest.mark.parametrize(
    ("asked", "scripts", "model", "reason"),
    [
        ("b", "good", "b", "named"),
        ("auto", "good", "a", "turn"),
        ("auto", "bad", "b", "failover"),
    ],
)
async def test_the_choice_of_each_answer_is_counted_with_its_reason(
    asked: str, scripts: str, model: str, reason: str
) -> None:
    good = [says("one", END)]
    models = Models(a=good if scripts == "good" else [says(ProviderError("down"))], b=good)
    core = await models.core(prices={"a": Price(1, 1), "b": Price(1, 1)})
    recorded = Recorded()
    chat = REQUEST.model_copy(update={"model": asked})
    caller, loop = Caller("team"), asyncio.get_running_loop()
    answer = await core.answer(Request(chat), caller, loop.time() + 60)
    await answer.whole()
    chosen = {"model": model, "strategy": "sequential", "reason": reason}
    assert recorded("llm_choices_total", **chosen) == recorded("llm_choices_total") == 1
    assert recorded("llm_decision_duration_seconds_count", strategy="sequential") == 1
    assert recorded("llm_cost_usd_total", model=model) == pytest.approx(8)
    assert recorded("llm_key_cost_usd_total", key="team") == pytest.approx(8)
    assert recorded("llm_key_tokens_total", key="team", gen_ai_token_type="output") == 3


def ranked(models: Sequence[str]) -> Ranking:
    """A prediction of three models, of which the first is the best."""
    return Ranking(
        list(models),
        quality={"best": 0.9, "also best": 0.9, "cheap": 0.6},
        cost={"best": 4.0, "also best": 5.0, "cheap": 1.0},
        output_tokens={"best": 10.0, "also best": 20.0, "cheap": 30.0},
    )


@pytest.mark.parametrize("floor", [False, True])
def test_what_was_predicted_is_recorded_beside_what_came_of_it(floor: bool) -> None:
    recorded, names = Recorded(), ["cheap", "best", "also best"]
    question = Question(candidates=names, available=names, requirement=0.5, floor=floor)
    answer = MeasuredAnswer(None, question, ranked(names), "smart")
    answer.begun("cheap")
    answer.end("cheap", Usage(5, 25), 2.0, rescued=False)
    mode = "floor" if floor else "mean"
    assert recorded("llm_choices_total", model="cheap", reason=mode) == 1
    assert recorded("llm_requirement_sum", mode=mode, source="required") == 0.5
    assert recorded("llm_requirement_sum", mode=mode, source="held") == pytest.approx(0.6)
    assert recorded("llm_compared_cost_usd_total", choice="chosen") == 1
    assert recorded("llm_compared_cost_usd_total", choice="always_best") == 4
    for name, predicted, actual in (("cost_usd", 1, 2), ("output_tokens", 30, 25)):
        series = f"llm_forecast_{name}_sum"
        assert recorded(series, model="cheap", source="predicted") == predicted
        assert recorded(series, model="cheap", source="actual") == actual
    answer.end("cheap", Usage(5, 25), 2.0, rescued=True)
    assert recorded("llm_forecast_cost_usd_count", model="cheap", source="actual") == 1
    assert recorded("llm_cost_usd_total", model="cheap") == 4


async def test_calls_of_the_embedder_are_counted_while_they_last() -> None:
    recorded, go_on = Recorded(), asyncio.Event()

    async def embed(texts: list[str]) -> int:
        await go_on.wait()
        return len(texts)

    call = asyncio.ensure_future(counted(embed, "Embedder")(["a", "b"]))
    await asyncio.sleep(0)
    assert in_flight(recorded, "ongoing", "Embedder") == 1
    go_on.set()
    assert await call == 2
    assert in_flight(recorded, "ongoing", "Embedder") == 0


def test_fallbacks_are_counted_by_actor() -> None:
    recorded = Recorded()
    ACTOR_FALLBACKS.labels("quotas").inc()
    assert recorded("llm_actor_fallbacks_total", actor="quotas") == 1
