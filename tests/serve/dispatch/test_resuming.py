"""Promise: an answer that breaks off is resumed where possible, and never looks whole if not."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from scripted_models import (
    END,
    IMPATIENT,
    REQUEST,
    STREAMED,
    Models,
    continues,
    refuses_a_beginning,
    says,
)

from deployments.contract import ChatRequest, Chunk, ToolCallDelta, merge
from deployments.errors import (
    InvalidRequest,
    ProviderError,
)
from serve.dispatch import attempts


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_BACKOFF_S", 0.001)


async def test_a_blank_line_separates_the_reasoning_of_two_models() -> None:
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


async def test_a_blank_line_separates_the_reasoning_of_a_continued_answer_too() -> None:
    models = Models(
        a=[says(Chunk(reasoning="Hm."), "one ", ProviderError("cut"))],
        b=[says("two", Chunk(reasoning="Well."), END)],
    )
    answer, whole = await models.answer(STREAMED)
    assert (whole.reasoning, whole.text) == ("Hm.\n\nWell.", "one two")
    assert answer.rescues[0].mode == "continued"


async def test_a_stall_after_the_reasoning_is_detected() -> None:
    async def stalls(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk(reasoning="Hm.")
        yield Chunk(text="one ")
        await asyncio.sleep(60)

    models = Models(IMPATIENT | {"thinking_timeout": 30}, a=[stalls], b=[continues("one two")])
    answer, whole = await models.answer(STREAMED)
    assert (whole.text, answer.rescues[0].error) == ("one two", "timeout")


@pytest.mark.parametrize("request_", [REQUEST, STREAMED], ids=["whole", "streamed"])
async def test_a_stream_that_just_ends_opens_the_circuit_and_is_resumed(
    request_: ChatRequest,
) -> None:
    """Only a finish reason says that an answer is whole."""
    alone = Models(a=[says("one ")])
    with pytest.raises(ProviderError, match="broke off"):
        await alone.answer(request_)
    assert alone.circuits.fault("a") is not None
    models = Models(a=[says("one ")], b=[continues("one two")])
    _, whole = await models.answer(request_)
    assert (whole.text, whole.finish_reason) == ("one two", "stop")


async def test_a_stream_that_breaks_off_is_continued_by_the_next_model() -> None:
    models = Models(a=[says("one ", "two ", ProviderError("cut"))], b=[continues("one two three")])
    answer, whole = await models.answer(STREAMED)
    assert whole == merge([Chunk(text="one two three"), END])
    assert (answer.model, answer.attempts, models.order) == ("b", 2, "ab")
    (rescue,) = answer.rescues
    assert (rescue.model, rescue.error, rescue.characters) == ("a", "provider_error", 8)
    assert rescue.mode == "continued"


async def test_the_only_model_continues_its_own_answer() -> None:
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


async def test_a_model_that_cannot_continue_an_answer_restarts_it() -> None:
    models = Models(a=[says("one ", ProviderError("cut"))], b=[refuses_a_beginning("one two")])
    answer, whole = await models.answer(STREAMED)
    assert (whole.text, answer.rescues[0].mode, models.order) == ("one two", "restarted", "abb")


async def test_a_refusal_to_continue_does_not_hide_the_fault() -> None:
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
async def test_tool_calls_and_json_are_never_resumed(request_: ChatRequest, part: Chunk) -> None:
    models = Models(a=[says(part, ProviderError("cut"))], b=[continues("x")])
    with pytest.raises(ProviderError, match="cut"):
        await models.answer(request_)
    assert models.order == "a"


async def test_before_its_first_tool_call_an_answer_can_be_resumed() -> None:
    call = Chunk(tool_calls=(ToolCallDelta(0, "id", "f", "{}"),))
    models = Models(a=[says("Well, ", ProviderError("cut"))], b=[says(call, END)])
    _, whole = await models.answer(STREAMED)
    assert [c.arguments for c in whole.tool_calls] == ["{}"]


async def test_a_stall_is_detected_and_the_answer_resumed() -> None:
    async def stalls(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        yield Chunk(text="one ")
        await asyncio.sleep(60)

    models = Models(IMPATIENT, a=[stalls], b=[continues("one two")])
    answer, whole = await models.answer(STREAMED)
    assert (whole.text, answer.rescues[0].error) == ("one two", "timeout")
