"""Promise: OpenAI's own client works with the Responses API, whole and streamed."""

import json
from typing import Any

import openai
import pytest
from openai.types.responses import FunctionToolParam, ResponseInputParam
from pydantic import BaseModel
from responses_api import client
from scripted_models import END, Models, says

from deployments.contract import Chunk, ToolCallDelta, Usage
from deployments.errors import ProviderError, RateLimited

ADD: FunctionToolParam = {
    "type": "function",
    "name": "add",
    "description": "Adds two numbers",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
}
CALLS = (
    Chunk(reasoning="I need the sums."),
    Chunk(tool_calls=(ToolCallDelta(0, "c1", "add", '{"a": 7, '),)),
    Chunk(tool_calls=(ToolCallDelta(0, arguments='"b": 5}'),)),
    Chunk(tool_calls=(ToolCallDelta(1, "c2", "add", '{"a": 1, "b": 1}'),)),
    Chunk(finish_reason="tool_calls", usage=Usage(9, 9)),
)


class Sum(BaseModel):
    sum: int


def agent(*answer: str | Chunk) -> Models:
    """A model that calls tools, and then answers."""
    return Models(m=[says(*CALLS), says(*answer, END)])


async def test_a_question() -> None:
    async with await client(Models(m=[says("one ", "two", END)])) as api:
        response = await api.responses.create(model="auto", input="Count.", temperature=0)
    assert response.output_text == "one two"
    assert response.status == "completed"


async def test_a_stream() -> None:
    async with await client(Models(m=[says(Chunk(reasoning="Hm."), "one ", "two", END)])) as api:
        events = [
            event
            async for event in await api.responses.create(model="auto", input="Hi", stream=True)
        ]
    texts = [event.delta for event in events if event.type == "response.output_text.delta"]
    thoughts = [e.delta for e in events if e.type == "response.reasoning_summary_text.delta"]
    assert (texts, thoughts) == (["one ", "two"], ["Hm."])
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "one two"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_loop_of_tools(streamed: bool) -> None:
    models = agent("12 and 2")
    conversation: ResponseInputParam = [{"role": "user", "content": "7+5 and 1+1?"}]
    async with await client(models) as api:
        if streamed:
            async with api.responses.stream(model="auto", input=conversation, tools=[ADD]) as s:
                output: list[Any] = list((await s.get_final_response()).output)
        else:
            first = await api.responses.create(model="auto", input=conversation, tools=[ADD])
            output = list(first.output)
        conversation += output
        for call in output:
            if call.type == "function_call":
                said = str(sum(json.loads(call.arguments).values()))
                conversation.append(
                    {"type": "function_call_output", "call_id": call.call_id, "output": said}
                )
        last = await api.responses.create(model="auto", input=conversation, tools=[ADD])
    assert last.output_text == "12 and 2"
    _, answer, *outputs = models.asked[1][1].messages
    assert answer["reasoning_content"] == "I need the sums."  # type: ignore[typeddict-item]
    assert [call["id"] for call in answer["tool_calls"] or ()] == ["c1", "c2"]  # type: ignore[typeddict-item]
    assert [output["content"] for output in outputs] == ["12", "2"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_structured_output(streamed: bool) -> None:
    models = Models(m=[says('{"sum"', ": 12}", END)])
    async with await client(models) as api:
        if streamed:
            async with api.responses.stream(model="auto", input="7+5", text_format=Sum) as stream:
                response = await stream.get_final_response()
        else:
            response = await api.responses.parse(model="auto", input="7+5", text_format=Sum)
    assert response.output_parsed == Sum(sum=12)
    format = models.asked[0][1].response_format
    assert format is not None
    assert format["type"] == "json_schema"
    assert format["json_schema"]["schema"]["required"] == ["sum"]


async def test_an_image() -> None:
    models = Models({"capabilities": ["images"]}, m=[says("a cat", END)])
    url = "data:image/png;base64,iVBORw0KGgo="
    async with await client(models) as api:
        await api.responses.create(
            model="auto",
            input=[
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What is this?"},
                        {"type": "input_image", "image_url": url, "detail": "auto"},
                    ],
                }
            ],
        )
    [message] = models.asked[0][1].messages
    assert message["content"] == [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "auto"}},
    ]


async def test_our_own_fields() -> None:
    models = Models(a=[says("one", END)], b=[says("two", END)])
    async with await client(models) as api:
        response = await api.responses.create(
            model="auto", input="Count.", extra_body={"models": ["b"]}
        )
    assert (response.model, response.output_text) == ("b", "two")


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"model": "none"}, openai.NotFoundError, "model"),
        ({"previous_response_id": "resp_1"}, openai.BadRequestError, "previous_response_id"),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "tools.0"),
    ],
)
async def test_a_refusal(
    fields: dict[str, Any], kind: type[openai.APIStatusError], param: str
) -> None:
    async with await client(Models(m=[says("one", END)])) as api:
        with pytest.raises(kind) as refusal:
            await api.responses.create(**{"model": "auto", "input": "Hi", **fields})
    assert refusal.value.param == param


async def test_an_error_before_and_within_a_stream() -> None:
    models = Models(
        {"retries": 0}, m=[says(RateLimited("full")), says("one", ProviderError("cut"))]
    )
    async with await client(models) as api:
        with pytest.raises(openai.RateLimitError):
            await api.responses.create(model="m", input="Hi", stream=True)
        stream = await api.responses.create(model="m", input="Hi", stream=True)
        *_, last = [event async for event in stream]
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert last.response.error.message == "cut"
        with pytest.raises(RuntimeError, match=r"response\.completed"):
            async with api.responses.stream(model="m", input="Hi") as helper:
                await helper.get_final_response()
