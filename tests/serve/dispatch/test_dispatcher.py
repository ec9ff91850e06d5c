"""Promise: a request ends in one model's answer, in an answer that others went on with, or in the
error that tells most; never in a part that looks whole."""

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
    REQUEST,
    STREAMED,
    Models,
    continues,
    refuses_a_beginning,
    says,
)

from deployments.contract import ChatRequest, Chunk, ToolCallDelta, merge
from deployments.errors import (
    DeadlineExceeded,
    InvalidRequest,
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
async def test_the_first_model_that_answers_is_the_one(request_: ChatRequest) -> None:
    models = Models(a=[says(UnsupportedParameter("no"))], b=[says("one", END)], c=[says("x")])
    answer, whole = await models.answer(request_)
    assert (answer.model, models.order) == ("b", "ab")
    assert (whole.text, whole.usage) == ("one", END.usage)
    assert models.asked[-1][1].model == "b"


async def test_what_no_provider_was_asked_is_no_attempt() -> None:
    """A replica refuses by itself what its model doesn't do, such as to go on with a part."""

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


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_an_answer_without_an_end_is_broken_off(request_: ChatRequest) -> None:
    models = Models(a=[says("one ")], b=[continues("one two")])
    answer, whole = await models.answer(request_)
    assert (whole.text, whole.finish_reason, answer.model) == ("one two", "stop", "b")
    models = Models(a=[says("one ")])
    with pytest.raises(ProviderError, match="broke off"):
        await models.answer(request_)


async def test_the_thoughts_of_two_models_are_parted_and_said_to_be_two() -> None:
    thinks = [Chunk(reasoning="First I"), Chunk(reasoning=" add.")]
    models = Models(
        a=[says(*thinks, ProviderError("cut"))],
        b=[says(Chunk(reasoning="Let me"), Chunk(reasoning=" see."), "two", END)],
    )
    answer, whole = await models.answer(STREAMED)
    assert (whole.reasoning, whole.text) == ("First I add.\n\nLet me see.", "two")
    (rescue,) = answer.rescues
    assert (rescue.mode, rescue.characters, rescue.reasoning_characters) == ("restarted", 0, 12)
    assert not any(asked.continue_final_message for _, asked in models.asked)


async def test_a_model_that_goes_on_with_a_text_thinks_apart_too() -> None:
    models = Models(
        a=[says(Chunk(reasoning="Hm."), "one ", ProviderError("cut"))],
        b=[says("two", Chunk(reasoning="Well."), END)],
    )
    answer, whole = await models.answer(STREAMED)
    assert (whole.reasoning, whole.text) == ("Hm.\n\nWell.", "one two")
    assert answer.rescues[0].mode == "continued"


@pytest.mark.parametrize("effort", [None, "high"])
async def test_a_model_that_thinks_in_silence_is_not_left(effort: str | None) -> None:
    """It is silent for longer than its other limits, before its first thought and after it."""

    async def reasons(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        await asyncio.sleep(0.7)
        yield Chunk(reasoning="Hm.")
        await asyncio.sleep(0.7)
        yield Chunk(text="one")
        yield END

    request = STREAMED.model_copy(update={"reasoning_effort": effort})
    for others in ({}, {"b": [says("two", END)]}):
        models = Models({} if effort else {"thinking_timeout": 30}, a=[reasons], **others)
        answer, whole = await models.answer(request)
        assert (whole.text, answer.attempts, answer.rescues) == ("one", 1, [])


async def test_a_model_that_is_told_not_to_think_is_left_as_any_other() -> None:
    models = Models({"thinking_timeout": 30}, a=[says("late", pause=60)], b=[says("one", END)])
    answer, _ = await models.answer(REQUEST.model_copy(update={"reasoning_effort": "none"}))
    assert answer.model == "b"


async def test_a_model_that_has_thought_and_stalls_is_found() -> None:
    async def stalls(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk(reasoning="Hm.")
        yield Chunk(text="one ")
        await asyncio.sleep(60)

    models = Models({"thinking_timeout": 30}, a=[stalls], b=[continues("one two")])
    answer, whole = await models.answer(STREAMED)
    assert (whole.text, answer.rescues[0].error) == ("one two", "timeout")


async def test_a_part_of_an_answer_is_nothing_to_who_wants_it_whole() -> None:
    models = Models(a=[says("on", ProviderError("cut"))], b=[says("one", END)])
    answer, whole = await models.answer()
    assert (whole.text, models.order, answer.rescues) == ("one", "aab", [])


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_a_stream_that_just_ends_has_broken_off(request_: ChatRequest) -> None:
    """Only a finish reason says that an answer is whole."""
    alone = Models(a=[says("one ")])
    with pytest.raises(ProviderError, match="broke off"):
        await alone.answer(request_)
    assert alone.circuits._states["a"].failures > 0
    models = Models(a=[says("one ")], b=[continues("one two")])
    _, whole = await models.answer(request_)
    assert (whole.text, whole.finish_reason) == ("one two", "stop")


async def test_a_stream_that_breaks_off_is_gone_on_with_by_the_next_model() -> None:
    models = Models(a=[says("one ", "two ", ProviderError("cut"))], b=[continues("one two three")])
    answer, whole = await models.answer(STREAMED)
    assert whole == merge([Chunk(text="one two three"), END])
    assert (answer.model, answer.attempts, models.order) == ("b", 2, "ab")
    (rescue,) = answer.rescues
    assert (rescue.model, rescue.error, rescue.characters) == ("a", "provider_error", 8)
    assert rescue.mode == "continued"


async def test_where_it_is_alone_the_same_model_goes_on() -> None:
    models = Models(a=[says("one ", ProviderError("cut")), continues("one two")])
    answer, whole = await models.answer(STREAMED)
    assert (whole.text, answer.rescues[0].mode) == ("one two", "continued")


async def test_a_stream_that_breaks_off_twice_is_rescued_twice() -> None:
    models = Models(
        a=[says("one ", ProviderError("cut"))],
        b=[says("two ", ProviderError("cut"))],
        c=[continues("one two three")],
    )
    answer, whole = await models.answer(STREAMED)
    assert whole.text == "one two three"
    assert [rescue.model for rescue in answer.rescues] == ["a", "b"]


async def test_who_takes_no_beginning_starts_anew() -> None:
    models = Models(a=[says("one ", ProviderError("cut"))], b=[refuses_a_beginning("one two")])
    answer, whole = await models.answer(STREAMED)
    assert (whole.text, answer.rescues[0].mode, models.order) == ("one two", "restarted", "abb")


async def test_the_refusal_of_a_beginning_hides_no_fault() -> None:
    refused = [refuses_a_beginning(""), says(InvalidRequest("wrong in itself"))]
    models = Models(a=[says("one ", ProviderError("cut"))], b=refused)
    with pytest.raises(ProviderError, match="cut"):
        await models.answer(STREAMED)


@pytest.mark.parametrize(
    ("request_", "part"),
    [
        (STREAMED, Chunk(tool_calls=(ToolCallDelta(0, "id", "f", '{"a'),))),
        (STREAMED.model_copy(update={"response_format": {"type": "json_object"}}), Chunk("{")),
    ],
    ids=["calls", "JSON"],
)
async def test_calls_and_json_are_never_of_two_models(request_: ChatRequest, part: Chunk) -> None:
    models = Models(a=[says(part, ProviderError("cut"))], b=[continues("x")])
    with pytest.raises(ProviderError, match="cut"):
        await models.answer(request_)
    assert models.order == "a"


async def test_before_a_call_has_begun_another_model_may_make_it() -> None:
    call = Chunk(tool_calls=(ToolCallDelta(0, "id", "f", "{}"),))
    models = Models(a=[says("Well, ", ProviderError("cut"))], b=[says(call, END)])
    _, whole = await models.answer(STREAMED)
    assert [c.arguments for c in whole.tool_calls] == ["{}"]


async def test_a_silent_model_is_left_for_the_next_and_not_asked_twice() -> None:
    models = Models(a=[says("late", pause=60)], b=[says("one", END)])
    started = time.monotonic()
    answer, _ = await models.answer()
    assert (answer.model, models.order) == ("b", "ab")
    assert 0.15 < time.monotonic() - started < 5
    assert models.responses[0].left


async def test_a_stall_is_found_and_rescued() -> None:
    async def stalls(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk(text="one ")
        await asyncio.sleep(60)

    models = Models(a=[stalls], b=[continues("one two")])
    answer, whole = await models.answer(STREAMED)
    assert (whole.text, answer.rescues[0].error) == ("one two", "timeout")


async def test_alone_a_silent_model_is_an_error_in_time() -> None:
    models = Models(a=[says("late", pause=60)])
    with pytest.raises(DeadlineExceeded, match="silent"):
        await models.answer()
    assert models.order == "a"


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_all_attempts_share_one_deadline_and_nobody_is_blamed(request_: ChatRequest) -> None:
    slow = says("late", pause=60)
    models = Models(a=[slow], b=[slow], c=[slow])
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="the time that the request has"):
        await models.send(request_, seconds=0.3)
    assert time.monotonic() - started < 2
    assert models.order == "ab"
    assert all(response.left for response in models.responses)
    for _ in range(10):
        with pytest.raises(DeadlineExceeded):
            await models.send(request_, seconds=0.01)
    assert not models.circuits.is_open("a"), "a caller's own deadline opened the circuit"


def test_a_callers_deadline_blames_nobody_where_timers_fire_early() -> None:
    """As uvloop's do, on which Ray Serve runs."""
    models = Models(a=[says("late", pause=60)])

    async def run() -> None:
        for _ in range(40):
            with pytest.raises(DeadlineExceeded, match="the time that the request has"):
                await models.send(seconds=0.01)

    uvloop.run(run())
    assert not models.circuits.is_open("a")


async def test_a_wait_for_a_replica_is_overload_and_no_fault_of_the_model() -> None:
    models = Models(a=[says("one", END)], b=[says("two", END)])
    models.queued_s = 60
    with pytest.raises(Overloaded, match="took the request"):
        await models.send()
    assert models.order == "ab"
    for _ in range(10):
        with pytest.raises(Overloaded):
            await models.send()
    assert not models.circuits.is_open("a")


async def test_a_full_queue_is_told_as_what_it_is() -> None:
    models = Models(a=[says("one", END)])
    models.refused = BackPressureError(num_queued_requests=2, max_queued_requests=2)
    with pytest.raises(Overloaded, match="as many requests as it can take"):
        await models.send()
    assert models.order == "a"


async def test_of_many_requests_at_once_one_probes_a_model_that_kept_failing() -> None:
    models = Models(a=[says("late", pause=60)], b=[says("one", END)])
    for _ in range(5):
        models.circuits.failed("a", ProviderError("down"))
    now = time.monotonic() + 11
    models.circuits._now = lambda: now
    answers = await asyncio.gather(*(models.answer() for _ in range(20)))
    assert all(answer.model == "b" for answer, _ in answers)
    assert models.order.count("a") == 1


async def test_a_model_whose_circuit_opened_meanwhile_is_passed_over() -> None:
    models = Models(a=[says(ProviderError("x"))], b=[says("no", END)], c=[says("one", END)])
    for _ in range(5):
        models.circuits.failed("b", ProviderError("down"))
    answer, _ = await models.answer()
    assert (answer.model, models.order) == ("c", "aac")


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_what_goes_wrong_after_the_end_takes_nothing_from_the_answer(
    request_: ChatRequest,
) -> None:
    models = Models(a=[says("one", END, RayActorError())])
    answer, whole = await models.answer(request_)
    assert (whole.text, answer.attempts, answer.rescues) == ("one", 1, [])


async def test_a_wait_that_would_outlast_the_deadline_is_not_made() -> None:
    models = Models(a=[says(RateLimited("full", retry_after=0.35))])
    with pytest.raises(RateLimited):
        await models.send(seconds=0.2)
    assert models.order == "a"


async def test_with_rate_limit_wait_the_same_model_is_asked_again_though_another_is_left() -> None:
    limited = [says(RateLimited("full", retry_after=0.05)), says("one", END)]
    models = Models({"rate_limit_wait": 5}, a=limited, b=[says("two", END)])
    started = time.monotonic()
    answer, whole = await models.answer()
    assert (whole.text, answer.attempts, models.order) == ("one", 2, "aa")
    assert time.monotonic() - started >= 0.05
    models = Models(a=limited, b=[says("two", END)])
    _, whole = await models.answer()
    assert (whole.text, models.order) == ("two", "ab")


async def test_a_wait_that_would_outlast_the_deadline_leaves_the_next_model() -> None:
    full = says(RateLimited("full", retry_after=30))
    models = Models({"rate_limit_wait": 60}, a=[full], b=[says("one", END)])
    answer = await models.send(seconds=20)
    assert (answer.model, models.order) == ("b", "ab")


async def test_the_deadline_ends_a_stream_too() -> None:
    models = Models(a=[says(*"abcdefgh", pause=0.1)])
    answer = await models.send(STREAMED, seconds=0.35)
    with pytest.raises(DeadlineExceeded, match="the time that the request has"):
        [chunk async for chunk in answer]


async def test_who_waits_for_a_replica_that_died_gets_503() -> None:
    models = Models(a=[says("late", pause=60)])
    gone = ModelState(available=False, status="UNHEALTHY", replicas=0, message="")
    models.availability.states = {"a": gone}
    with pytest.raises(ModelUnavailable, match="no replica of model 'a'"):
        await models.answer()


async def test_what_a_dead_replica_was_answering_is_asked_of_another() -> None:
    models = Models(a=[says(RayActorError()), says("one", END)])
    _, whole = await models.answer()
    assert whole.text == "one"


async def test_who_keeps_failing_opens_its_circuit_and_an_answer_closes_it() -> None:
    models = Models(a=[says(ProviderError("down"))], b=[says("one", END)])
    for _ in range(3):
        await models.answer()
    assert models.circuits.fit("ab") == ["b"]
    assert models.order == "aab" + "aab" + "ab", "a model whose circuit is open is not asked again"
    models.scripts["a"] = [says("well", END)]
    later = time.monotonic() + 11
    models.circuits._now = lambda: later
    await models.answer()
    assert models.circuits.fit("ab") == ["a", "b"]


@pytest.mark.parametrize("read", [0, 1, 2])
async def test_a_caller_who_leaves_stops_the_model(read: int) -> None:
    models = Models(a=[says("one ", "two ", END)])
    answer = await models.send(STREAMED)
    for _ in range(read):
        await anext(answer)
    gc.disable()  # a collection would end what nobody refers to
    try:
        await answer.aclose()
        assert models.responses[0].left
    finally:
        gc.enable()


async def test_the_error_of_the_only_model_is_told_as_it_is() -> None:
    models = Models(a=[says(ProviderError("out of order"))])
    with pytest.raises(LLMError, match="out of order"):
        await models.answer()
    assert models.order == "aaa"
