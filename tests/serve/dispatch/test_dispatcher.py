"""Promise: a request ends in an answer or in the most telling error, within its deadline."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator

import pytest
import uvloop
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError
from scripted_models import (
    END,
    IMPATIENT,
    REQUEST,
    STREAMED,
    Models,
    says,
)

from deployments.contract import ChatRequest, Chunk
from deployments.errors import (
    DeadlineExceeded,
    LLMError,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    RateLimited,
    UnsupportedParameter,
)
from serve.availability.replicas import ModelState
from serve.dispatch import attempts


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_BACKOFF_S", 0.001)


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_the_first_model_that_answers_wins(request_: ChatRequest) -> None:
    models = Models(a=[says(UnsupportedParameter("no"))], b=[says("one", END)], c=[says("x")])
    answer, whole = await models.answer(request_)
    assert (answer.model, models.order) == ("b", "ab")
    assert (whole.text, whole.usage) == ("one", END.usage)
    assert models.asked[-1][1].model == "b"


async def test_a_refusal_without_asking_the_provider_is_no_attempt() -> None:
    """Replicas themselves refuse what their model can't do, such as continuing an answer."""

    async def takes_no_beginning(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        if request.continue_final_message:
            raise UnsupportedParameter("not here")
        yield Chunk(text="one two")
        yield END

    models = Models(a=[says("one ", ProviderError("cut"))], b=[takes_no_beginning])
    answer, _ = await models.answer(STREAMED)
    assert (answer.attempts, models.order) == (2, "abb")
    models = Models(a=[says(UnsupportedParameter("no"))], b=[says("one", END)])
    answer, _ = await models.answer()
    assert (answer.attempts, models.order) == (1, "ab")


@pytest.mark.parametrize("effort", [None, "high"])
async def test_a_model_that_reasons_silently_is_not_given_up_on(effort: str | None) -> None:
    """It is silent for longer than its other limits, before its first reasoning and after it."""

    async def reasons(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        await asyncio.sleep(0.7)
        yield Chunk(reasoning="Hm.")
        await asyncio.sleep(0.7)
        yield Chunk(text="one")
        yield END

    request = STREAMED.model_copy(update={"reasoning_effort": effort})
    thinking = {} if effort else {"thinking_timeout": 30}
    for others in ({}, {"b": [says("two", END)]}):
        models = Models(IMPATIENT | thinking, a=[reasons], **others)
        answer, whole = await models.answer(request)
        assert (whole.text, answer.attempts, answer.rescues) == ("one", 1, [])


async def test_a_model_that_is_told_not_to_reason_gets_no_extra_time() -> None:
    keys = IMPATIENT | {"thinking_timeout": 30}
    models = Models(keys, a=[says("late", pause=60)], b=[says("one", END)])
    answer, _ = await models.answer(REQUEST.model_copy(update={"reasoning_effort": "none"}))
    assert answer.model == "b"


async def test_a_partial_answer_is_discarded_where_the_whole_is_wanted() -> None:
    models = Models(a=[says("on", ProviderError("cut"))], b=[says("one", END)])
    answer, whole = await models.answer()
    assert (whole.text, models.order, answer.rescues) == ("one", "aab", [])


async def test_after_a_timeout_the_next_model_is_asked() -> None:
    models = Models(IMPATIENT, a=[says("late", pause=60)], b=[says("one", END)])
    started = time.monotonic()
    answer, _ = await models.answer()
    assert (answer.model, models.order) == ("b", "ab")
    assert 0.15 < time.monotonic() - started < 5
    assert models.responses[0].left


async def test_a_timeout_of_the_only_model_is_an_error() -> None:
    models = Models(IMPATIENT, a=[says("late", pause=60)])
    with pytest.raises(DeadlineExceeded, match="silent"):
        await models.answer()
    assert models.order == "a"


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_all_attempts_share_one_deadline_which_is_no_models_fault(
    request_: ChatRequest,
) -> None:
    slow = says("late", pause=60)
    models = Models(IMPATIENT, a=[slow], b=[slow], c=[slow])
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="the request's time limit"):
        await models.send(request_, seconds=0.3)
    assert time.monotonic() - started < 2
    assert models.order == "ab"
    assert all(response.left for response in models.responses)
    for _ in range(10):
        with pytest.raises(DeadlineExceeded):
            await models.send(request_, seconds=0.01)
    assert not models.circuits.is_open("a"), "a caller's own deadline opened the circuit"


def test_the_deadline_is_no_models_fault_even_if_timers_fire_early() -> None:
    """As those of uvloop do, which Ray Serve uses."""
    models = Models(IMPATIENT, a=[says("late", pause=60)])

    async def run() -> None:
        for _ in range(40):
            with pytest.raises(DeadlineExceeded, match="the request's time limit"):
                await models.send(seconds=0.01)

    uvloop.run(run())
    assert not models.circuits.is_open("a")


async def test_waiting_too_long_for_a_replica_is_overload_and_no_fault() -> None:
    models = Models(IMPATIENT, a=[says("one", END)], b=[says("two", END)])
    models.queued_s = 60
    with pytest.raises(Overloaded, match="accepted the request"):
        await models.send()
    assert models.order == "ab"
    refused = await asyncio.gather(*(models.send() for _ in range(10)), return_exceptions=True)
    assert {type(error) for error in refused} == {Overloaded}
    assert not models.circuits.is_open("a")


async def test_a_sleeping_model_may_take_until_the_requests_deadline_to_start() -> None:
    models = Models(IMPATIENT, a=[says("one", END)])
    sleeping = ModelState(available=True, status="HEALTHY", replicas=0, message="")
    models.availability.states = {"a": sleeping}
    models.queued_s = 1.0  # longer than the model's own limits
    assert (await models.answer())[1].text == "one"
    models.queued_s = 60
    with pytest.raises(DeadlineExceeded, match="'a' has not started within"):
        await models.send(seconds=0.3)
    assert not models.circuits.is_open("a")


async def test_a_full_queue_is_reported_as_overload() -> None:
    models = Models(a=[says("one", END)])
    models.refused = BackPressureError(num_queued_requests=2, max_queued_requests=2)
    with pytest.raises(Overloaded, match="limit of concurrent requests"):
        await models.send()
    assert models.order == "a"


async def test_one_of_many_concurrent_requests_probes_an_open_circuit() -> None:
    models = Models(IMPATIENT, a=[says("late", pause=60)], b=[says("one", END)])
    for _ in range(5):
        models.circuits.failed("a", ProviderError("down"))
    now = time.monotonic() + 11
    models.circuits._now = lambda: now
    answers = await asyncio.gather(*(models.answer() for _ in range(20)))
    assert all(answer.model == "b" for answer, _ in answers)
    assert models.order.count("a") == 1


async def test_one_of_many_probes_of_strategies_asks_a_model_whose_circuit_is_open() -> None:
    models = Models(a=[says(ProviderError("down"))])
    for _ in range(5):
        models.circuits.failed("a", ProviderError("down"))
    now = time.monotonic() + 11
    models.circuits._now = lambda: now
    for _ in range(5):
        with pytest.raises(LLMError):
            await models.dispatcher.once(REQUEST, "a", time.monotonic() + 60)
    assert models.order == "a"


async def test_a_deadline_that_passes_within_a_probe_is_no_fault_of_the_model() -> None:
    models = Models({"circuit": {"failures": 1}}, a=[says("late", END, pause=60)])
    with pytest.raises(DeadlineExceeded, match="the request's time limit"):
        await models.dispatcher.once(REQUEST, "a", time.monotonic() + 0.05)
    assert not models.circuits.is_open("a")


async def test_a_model_whose_circuit_has_opened_since_is_passed_over() -> None:
    models = Models(a=[says(ProviderError("x"))], b=[says("no", END)], c=[says("one", END)])
    for _ in range(5):
        models.circuits.failed("b", ProviderError("down"))
    answer, _ = await models.answer()
    assert (answer.model, models.order) == ("c", "aac")


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_an_error_after_the_finish_reason_is_ignored(
    request_: ChatRequest,
) -> None:
    models = Models(a=[says("one", END, RayActorError())])
    answer, whole = await models.answer(request_)
    assert (whole.text, answer.attempts, answer.rescues) == ("one", 1, [])


async def test_a_wait_beyond_the_deadline_fails_at_once() -> None:
    models = Models(a=[says(RateLimited("full", retry_after=0.35))])
    with pytest.raises(RateLimited):
        await models.send(seconds=0.2)
    assert models.order == "a"


async def test_with_rate_limit_wait_the_same_model_is_retried_although_another_is_left() -> None:
    limited = [says(RateLimited("full", retry_after=0.05)), says("one", END)]
    models = Models({"rate_limit_wait": 5}, a=limited, b=[says("two", END)])
    started = time.monotonic()
    answer, whole = await models.answer()
    assert (whole.text, answer.attempts, models.order) == ("one", 2, "aa")
    assert time.monotonic() - started >= 0.05
    models = Models(a=limited, b=[says("two", END)])
    _, whole = await models.answer()
    assert (whole.text, models.order) == ("two", "ab")


async def test_instead_of_a_wait_beyond_the_deadline_the_next_model_is_asked() -> None:
    full = says(RateLimited("full", retry_after=30))
    models = Models({"rate_limit_wait": 60}, a=[full], b=[says("one", END)])
    answer = await models.send(seconds=20)
    assert (answer.model, models.order) == ("b", "ab")


async def test_the_deadline_ends_a_stream() -> None:
    models = Models(a=[says(*"abcdefgh", pause=0.1)])
    answer = await models.send(STREAMED, seconds=0.35)
    with pytest.raises(DeadlineExceeded, match="the request's time limit"):
        [chunk async for chunk in answer]


async def test_waiting_for_a_replica_that_died_ends_in_503() -> None:
    models = Models(a=[says("late", pause=60)])
    gone = ModelState(available=False, status="UNHEALTHY", replicas=0, message="")
    models.availability.states = {"a": gone}
    with pytest.raises(ModelUnavailable, match="no replica of model 'a'"):
        await models.answer()


async def test_a_request_whose_replica_died_is_retried() -> None:
    models = Models(a=[says(RayActorError()), says("one", END)])
    _, whole = await models.answer()
    assert whole.text == "one"


async def test_repeated_faults_open_a_circuit_and_an_answer_closes_it() -> None:
    models = Models(a=[says(ProviderError("down"))], b=[says("one", END)])
    for _ in range(3):
        await models.answer()
    assert models.circuits.usable("ab") == ["b"]
    assert models.order == "aab" + "aab" + "ab", "a model whose circuit is open is not asked again"
    models.scripts["a"] = [says("well", END)]
    later = time.monotonic() + 11
    models.circuits._now = lambda: later
    await models.answer()
    assert models.circuits.usable("ab") == ["a", "b"]


@pytest.mark.parametrize("read", [0, 1, 2])
async def test_closing_an_answer_stops_the_model(read: int) -> None:
    models = Models(a=[says("one ", "two ", END)])
    answer = await models.send(STREAMED)
    for _ in range(read):
        await anext(answer)
    gc.disable()  # a collection would close what nothing refers to
    try:
        await answer.aclose()
        assert models.responses[0].left
    finally:
        gc.enable()


async def test_the_only_models_error_is_reported_unchanged() -> None:
    models = Models(a=[says(ProviderError("out of order"))])
    with pytest.raises(LLMError, match="out of order"):
        await models.answer()
    assert models.order == "aaa"
