"""Promise: calls are what the request allows, and their arguments follow the schema."""

import json
from typing import Any

import pytest
from huggingface_requests import (
    ANSWERS,
    ORDER,
    TOOLS,
    WEATHER,
    answer,
    ask,
    calls,
    chunks_of,
    named,
    schema,
    settled,
)
from jsonschema import validate

from deployments.backends.huggingface.backend import HuggingFaceBackend
from deployments.contract import ChatRequest, merge
from deployments.errors import (
    InvalidRequest,
)


async def test_a_call_in_free_text_is_parsed(reciting: HuggingFaceBackend) -> None:
    for stream in (False, True):
        reply = await answer(reciting, ask("one", tools=TOOLS, stream=stream))
        assert calls(reply) == [("get/weather", {"city": "Paris", "unit": "C"})]
        assert reply.text == ""
        assert reply.finish_reason == "tool_calls"


async def test_calls_within_text_are_parsed_and_the_text_streams(
    reciting: HuggingFaceBackend,
) -> None:
    pieces = await chunks_of(reciting, ask("two", tools=TOOLS, stream=True))
    reply = merge(pieces)
    assert [name for name, _ in calls(reply)] == ["get/weather", "clock"]
    assert reply.text == "I look.Done."
    assert reply.finish_reason == "tool_calls"
    assert len([piece for piece in pieces if piece.text]) > 5


async def test_without_parallel_calls_there_is_one_at_most(reciting: HuggingFaceBackend) -> None:
    reply = await answer(reciting, ask("two", tools=TOOLS, parallel_tool_calls=False))
    assert [name for name, _ in calls(reply)] == ["get/weather"]
    assert reply.finish_reason == "tool_calls"
    assert await settled(reciting)


async def test_tools_do_not_change_plain_text(reciting: HuggingFaceBackend) -> None:
    reply = await answer(reciting, ask("text", tools=TOOLS))
    assert (reply.text, reply.tool_calls) == (ANSWERS["text"], ())
    assert reply.finish_reason == "stop"


async def test_tool_choice_none_offers_no_tools(reciting: HuggingFaceBackend) -> None:
    without = await answer(reciting, ask("one"))
    reply = await answer(reciting, ask("one", tools=TOOLS, tool_choice="none"))
    assert reply == without
    assert reply.text == ANSWERS["one"]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 5}])
async def test_even_random_weights_make_required_calls(
    random_weights: HuggingFaceBackend, sampling: dict[str, Any]
) -> None:
    parameters = WEATHER["function"]["parameters"]
    required = await answer(random_weights, ask(tools=TOOLS, tool_choice="required", **sampling))
    assert calls(required)
    for name, arguments in calls(required):
        validate(arguments, parameters if name == "get/weather" else {"const": {}})
    chosen = await answer(
        random_weights, ask(tools=TOOLS, tool_choice=named("get/weather"), **sampling)
    )
    ((name, arguments),) = calls(chosen)
    assert name == "get/weather"
    validate(arguments, parameters)
    assert chosen.finish_reason == "tool_calls"
    assert chosen.text == required.text == ""


async def test_without_parallel_calls_a_required_call_is_a_single_one(
    random_weights: HuggingFaceBackend,
) -> None:
    request = ask(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    assert len((await answer(random_weights, request)).tool_calls) == 1


async def test_arguments_of_a_named_tool_stream(random_weights: HuggingFaceBackend) -> None:
    request = ask(tools=TOOLS, tool_choice=named("get/weather"), stream=True)
    deltas = [d for chunk in await chunks_of(random_weights, request) for d in chunk.tool_calls]
    assert len(deltas) > 5
    assert len({delta.id for delta in deltas if delta.id}) == 1


async def test_tools_with_a_schema_give_a_call_or_valid_json(
    random_weights: HuggingFaceBackend,
) -> None:
    for seed in range(4):
        request = ask(tools=TOOLS, response_format=schema(ORDER), temperature=1.0, seed=seed)
        reply = await answer(random_weights, request)
        if not reply.tool_calls:
            validate(json.loads(reply.text), ORDER)


@pytest.mark.parametrize("choice", ["auto", "required", named("broken")])
@pytest.mark.parametrize("parameters", [{"type": "banana"}, {"type": "string"}])
async def test_a_tool_with_a_broken_schema_is_refused(
    random_weights: HuggingFaceBackend, choice: Any, parameters: dict[str, Any]
) -> None:
    broken = {"type": "function", "function": {"name": "broken", "parameters": parameters}}
    with pytest.raises(InvalidRequest, match="broken"):
        await answer(random_weights, ask(tools=[broken], tool_choice=choice))


@pytest.mark.parametrize("name", ["random_weights", "reciting"])
async def test_results_of_tools_reach_the_prompt(name: str, request: pytest.FixtureRequest) -> None:
    backend: HuggingFaceBackend = request.getfixturevalue(name)
    call = {"name": "get/weather", "arguments": '{"city": "Paris"}'}
    messages: list[Any] = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ]
    tools: Any = TOOLS
    prompts = [
        backend._template.prompt(ChatRequest(model="tiny", messages=messages[:n], tools=tools))
        for n in (1, 3)
    ]
    asked, told = (backend._tokenizer.decode(prompt) for prompt in prompts)
    assert "get/weather" in asked
    assert "sunny" in told
    assert told.count("Paris") == 1
