"""The contract of `deployments.contract.Backend`, for every row of the registry."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
from backends_under_test import BACKENDS, every_kind
from engine_fixtures import NAME
from vllm_fixtures import CONTEXT

from deployments.contract import Backend, ChatRequest, Chunk, ToolCallDelta, merge
from deployments.errors import ContextLengthExceeded, InvalidRequest, UnsupportedParameter

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTION = "What is 12 + 30?"
PLACE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 1, "maxLength": 6},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "unit", "days"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {"name": "weather/now", "description": "The weather.", "parameters": PLACE},
}
TIME = {
    "type": "function",
    "function": {"name": "weather__now", "parameters": {"type": "object", "properties": {}}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=every_kind())
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    """A backend of each row in turn."""
    assert request.param in BACKENDS, (
        f"'{request.param}' is not in tests/support/backends_under_test.py"
    )
    backend = BACKENDS[request.param](request)
    yield backend
    await backend.aclose()


def ask(content: str = QUESTION, /, **fields: Any) -> ChatRequest:
    """A greedy request for 24 tokens at most, unless `fields` say otherwise."""
    limits = {"temperature": 0.0, "max_tokens": 24}
    messages = [{"role": "user", "content": content}]
    return ChatRequest.model_validate({"model": NAME, "messages": messages, **limits, **fields})


async def chunks_of(backend: Backend, request: ChatRequest) -> list[Chunk]:
    async with aclosing(backend.chat(request)) as chunks:
        return [chunk async for chunk in chunks]


async def answer_to(backend: Backend, request: ChatRequest) -> Chunk:
    return merge(await chunks_of(backend, request))


async def test_an_answer_is_the_same_whole_and_streamed(backend: Backend) -> None:
    whole = await answer_to(backend, ask())
    streamed = await answer_to(backend, ask(stream=True))
    assert whole.text
    assert (streamed.text, streamed.finish_reason, streamed.usage) == (
        whole.text,
        whole.finish_reason,
        whole.usage,
    )


async def test_an_answer_comes_in_pieces(backend: Backend) -> None:
    # A long one: on a busy machine a few tokens may leave together.
    chunks = await chunks_of(backend, ask('Spell "mountain" backwards.', stream=True))
    assert len([chunk for chunk in chunks if chunk.text]) > 1


async def test_a_stream_ends_with_one_finish_reason_and_one_usage(backend: Backend) -> None:
    chunks = await chunks_of(backend, ask(stream=True))
    assert [chunk.finish_reason for chunk in chunks if chunk.finish_reason] in (
        ["stop"],
        ["length"],
    )
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert len(usages) == 1
    assert usages[0].prompt_tokens > 0
    assert usages[0].completion_tokens > 0


async def test_usage_counts_the_prompt(backend: Backend) -> None:
    short, long = await answer_to(backend, ask("Hi")), await answer_to(backend, ask("Hi" * 50))
    assert short.usage is not None
    assert long.usage is not None
    assert long.usage.prompt_tokens > short.usage.prompt_tokens


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_the_limit_of_tokens_ends_an_answer(backend: Backend, limit: str) -> None:
    answer = await answer_to(backend, ask(**{"max_tokens": None, limit: 1}))
    assert answer.finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 1


async def test_a_begun_answer_is_continued(backend: Backend) -> None:
    whole = await answer_to(backend, ask())
    begun, rest = whole.text[:1], whole.text[1:]
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": begun},
    ]
    further = await answer_to(backend, ask(messages=messages, continue_final_message=True))
    assert rest
    assert further.text == rest


async def test_a_stop_string_ends_an_answer_and_is_not_part_of_it(backend: Backend) -> None:
    text = (await answer_to(backend, ask())).text
    stop = text[len(text) // 2]
    answer = await answer_to(backend, ask(stop=[stop]))
    assert answer.text == text.split(stop)[0]
    assert answer.finish_reason == "stop"


async def test_a_seed_repeats_an_answer(backend: Backend) -> None:
    request = ask(temperature=1.5, seed=7)
    first, second = await answer_to(backend, request), await answer_to(backend, request)
    assert first.text == second.text


async def test_a_parameter_that_is_not_supported_is_named(backend: Backend) -> None:
    with pytest.raises(UnsupportedParameter) as error:
        await answer_to(backend, ask(verbosity="low"))
    assert error.value.param == "verbosity"


@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "function": {"name": "weather/now"}}],
    ids=["required", "named"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_forced_call_keeps_to_its_schema_and_name(
    backend: Backend, choice: Any, stream: bool
) -> None:
    request = ask(tools=[WEATHER], tool_choice=choice, max_tokens=400, stream=stream)
    answer = await answer_to(backend, request)
    calls = whole_calls(answer, limit=400)
    assert {call.name for call in calls} == {"weather/now"}
    assert len({call.id for call in calls} - {""}) == len(calls)
    for call in calls:
        jsonschema.validate(json.loads(call.arguments), PLACE)


def whole_calls(answer: Chunk, limit: int) -> list[ToolCallDelta]:
    """The calls of an answer, without a last one that the limit may have cut off.

    A model that must call may go on calling until its tokens are used up: nothing forbids it.
    """
    assert answer.usage is not None
    if answer.finish_reason == "length":
        assert answer.usage.completion_tokens == limit
        assert len(answer.tool_calls) > 1
        return list(answer.tool_calls[:-1])
    assert answer.finish_reason == "tool_calls"
    return list(answer.tool_calls)


async def test_names_that_collide_when_made_safe_stay_distinct(backend: Backend) -> None:
    for name in ("weather/now", "weather__now"):
        choice = {"type": "function", "function": {"name": name}}
        request = ask(tools=[WEATHER, TIME], tool_choice=choice, max_tokens=400)
        assert {call.name for call in (await answer_to(backend, request)).tool_calls} == {name}


async def test_a_call_cut_off_by_the_limit_ends_with_length(backend: Backend) -> None:
    answer = await answer_to(backend, ask(tools=[WEATHER], tool_choice="required", max_tokens=20))
    assert answer.finish_reason == "length"


async def test_tool_choice_none_calls_nothing(backend: Backend) -> None:
    answer = await answer_to(backend, ask(tools=[WEATHER], tool_choice="none"))
    assert answer.tool_calls == ()
    assert answer.finish_reason in ("stop", "length")


@pytest.mark.parametrize("choice", [None, "auto"])
async def test_tools_are_optional_to_call(backend: Backend, choice: str | None) -> None:
    answer = await answer_to(backend, ask(tools=[WEATHER], tool_choice=choice))
    assert answer.finish_reason
    assert answer.usage


async def test_a_tool_result_is_answered(backend: Backend) -> None:
    calls = [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "weather/now", "arguments": '{"city": "Rome"}'},
        }
    ]
    messages = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    for tools in ([WEATHER], None):  # the history may name a tool that is offered no more
        answer = await answer_to(backend, ask(messages=messages, tools=tools))
        assert answer.finish_reason in ("stop", "length")
        assert answer.usage


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_an_answer_keeps_to_a_json_schema(backend: Backend, stream: bool) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}
    answer = await answer_to(backend, ask(response_format=schema, max_tokens=400, stream=stream))
    jsonschema.validate(json.loads(answer.text), PLACE)
    assert answer.finish_reason == "stop"


async def test_an_answer_is_a_json_object(backend: Backend) -> None:
    answer = await answer_to(backend, ask(response_format={"type": "json_object"}, max_tokens=200))
    assert answer.text.lstrip().startswith("{")
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.text), dict)


@pytest.mark.parametrize(
    "schema",
    [{"type": "banana"}, {"type": "integer", "minimum": 5, "maximum": 2}],
    ids=["unknown type", "empty range"],
)
async def test_an_impossible_schema_is_refused(backend: Backend, schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "none", "schema": schema}}
    with pytest.raises(InvalidRequest):
        await answer_to(backend, ask(response_format=form))
    assert (await answer_to(backend, ask())).text


async def test_a_prompt_longer_than_the_context_is_refused(backend: Backend) -> None:
    with pytest.raises(ContextLengthExceeded):
        await answer_to(backend, ask("many words " * 1000))
    assert (await answer_to(backend, ask())).text


async def test_a_stream_closed_early_frees_the_backend(backend: Backend) -> None:
    schema = {"type": "string", "minLength": 1000}
    long = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema}}
    request = ask(response_format=long, max_tokens=1500, stream=True)
    for _ in range(4):
        async with aclosing(backend.chat(request)) as chunks:
            assert not (await anext(chunks)).finish_reason
    assert (await answer_to(backend, ask())).text


async def test_concurrent_requests_are_all_answered(backend: Backend) -> None:
    questions = [f"What is {number} + 1?" for number in range(10, 26)]
    answers = await asyncio.gather(*(answer_to(backend, ask(text)) for text in questions))
    alone = [await answer_to(backend, ask(text)) for text in questions[:2]]
    assert [answer.usage for answer in answers[:2]] == [answer.usage for answer in alone]
    assert all(answer.finish_reason and answer.usage for answer in answers)


async def test_a_backend_that_answers_is_healthy(backend: Backend) -> None:
    await backend.check_health()


async def test_a_backend_knows_its_context_window(backend: Backend) -> None:
    assert await backend.context_window() == CONTEXT
