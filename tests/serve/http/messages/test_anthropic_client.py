"""Promise: Anthropic's own client works unchanged: whole, streamed, tools, thinking, images, JSON
and errors."""

import json
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, RedactedThinkingBlock, TextBlock, ThinkingBlock, ToolUseBlock
from anthropic_client import anthropic_client
from pydantic import BaseModel
from scripted_models import Models, Script, continues, says

from deployments.contract import ChatRequest, Chunk, ToolCallDelta, Usage
from deployments.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    LLMError,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    RateLimited,
)
from deployments.extras import ANTHROPIC_PARAMETERS, STOP_SEQUENCE, THINKING_BLOCKS

USAGE = Usage(
    360,
    7,
    cached_tokens=300,
    reasoning_tokens=2,
    cache_written_tokens=50,
    cache_written_1h_tokens=30,
)
END = Chunk(finish_reason="stop", usage=USAGE)
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
SIGNED = {"type": "thinking", "thinking": "Hm, well.", "signature": "c2lnbmVk"}
HIDDEN = {"type": "redacted_thinking", "data": "aGlkZGVu"}


def asked(models: Models) -> ChatRequest:
    """What the model was asked last."""
    return models.asked[-1][1]


async def whole(script: Script, **fields: Any) -> tuple[Message, Models]:
    models = Models({"retries": 0, "capabilities": ["tools", "json", "images"]}, m=[script])
    client = await anthropic_client(models)
    given = {"model": "m", "max_tokens": 100, "messages": HELLO, **fields}
    return await client.messages.create(**given), models


async def streamed(script: Script, **fields: Any) -> tuple[Message, list[Any]]:
    client = await anthropic_client(Models({"retries": 0}, m=[script]))
    given = {"model": "m", "max_tokens": 100, "messages": HELLO, **fields}
    async with client.messages.stream(**given) as stream:
        events = [event async for event in stream]
        return await stream.get_final_message(), events


async def test_a_whole_message() -> None:
    message, models = await whole(says("Hi ", "there", END))
    Message.model_validate(message.model_dump(), strict=False)
    assert message.id.startswith("msg_")
    assert (message.type, message.role, message.model) == ("message", "assistant", "m")
    assert [block.type for block in message.content] == ["text"]
    assert isinstance(message.content[0], TextBlock)
    assert message.content[0].text == "Hi there"
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    request = asked(models)
    assert (request.messages, request.max_tokens) == (HELLO, 100)
    assert not request.stream


async def test_usage_counts_the_cache_apart() -> None:
    message, _ = await whole(says("Hi", END))
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens) == (10, 7)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (300, 50)
    assert usage.cache_creation is not None
    assert usage.cache_creation.ephemeral_5m_input_tokens == 20
    assert usage.cache_creation.ephemeral_1h_input_tokens == 30
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 2


async def test_a_streamed_message_is_the_whole_one() -> None:
    script = says("Hi ", "there", END)
    message, events = await streamed(script)
    same, _ = await whole(script)
    hide: Any = {"id": True}
    assert message.model_dump(exclude=hide) | {"usage": None} == same.model_dump(exclude=hide) | {
        "usage": None
    }
    assert message.usage.input_tokens == 10
    assert message.usage.output_tokens == 7
    assert message.usage.cache_read_input_tokens == 300
    kinds = [event.type for event in events if event.type != "text"]
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 2,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (Chunk(finish_reason="length", usage=USAGE), ("max_tokens", None)),
        (Chunk(finish_reason="content_filter", usage=USAGE), ("refusal", None)),
        (
            Chunk(finish_reason="stop", usage=USAGE, extra=((STOP_SEQUENCE, "END"),)),
            ("stop_sequence", "END"),
        ),
    ],
)
async def test_why_it_stopped(end: Chunk, reason: tuple[str, str | None]) -> None:
    message, models = await whole(says("a", end), stop_sequences=["END"])
    assert (message.stop_reason, message.stop_sequence) == reason
    assert asked(models).stops == ["END"]
    message, _ = await streamed(says("a", end), stop_sequences=["END"])
    assert (message.stop_reason, message.stop_sequence) == reason


def calls(*deltas: tuple[int, str, str, str]) -> list[Chunk]:
    said = [Chunk(tool_calls=(ToolCallDelta(*delta),)) for delta in deltas]
    return [*said, Chunk(finish_reason="tool_calls", usage=USAGE)]


PARALLEL = calls(
    (0, "call_1", "weather", '{"ci'),
    (1, "call_2", "weather", '{"city":'),
    (0, "", "", 'ty": "Rome"}'),
    (2, "call_3", "now", ""),
    (1, "", "", ' "Oslo"}'),
)


@pytest.mark.parametrize("way", [whole, streamed])
async def test_parallel_calls_come_one_after_another(way: Any) -> None:
    """Even where the model's chunks of them interleave."""
    message, _ = await way(
        says("Let me look.", *PARALLEL), tools=[WEATHER, {**WEATHER, "name": "now"}]
    )
    assert message.stop_reason == "tool_use"
    text, *uses = message.content
    assert isinstance(text, TextBlock)
    assert [(use.id, use.name, use.input) for use in uses] == [
        ("call_1", "weather", {"city": "Rome"}),
        ("call_2", "weather", {"city": "Oslo"}),
        ("call_3", "now", {}),
    ]


async def test_a_loop_of_two_turns_with_a_tool() -> None:
    """The message goes back as the client holds it."""
    use = calls((0, "toolu_1", "weather", '{"city": "Rome"}'))
    models = Models(m=[says(*use), says("Sunny.", END)])
    client = await anthropic_client(models)
    given: dict[str, Any] = {"model": "m", "max_tokens": 100, "tools": [WEATHER]}
    first = await client.messages.create(messages=HELLO, **given)
    assert isinstance(first.content[0], ToolUseBlock)
    result: Any = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "22 °C"}
    back: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": [result]},
    ]
    second = await client.messages.create(messages=back, tool_choice={"type": "any"}, **given)
    assert isinstance(second.content[0], TextBlock)
    _, assistant, tool = asked(models).messages
    assert assistant["role"] == "assistant"
    assert assistant["tool_calls"]
    (call,) = assistant["tool_calls"]
    assert call["id"] == "toolu_1"
    assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
    assert tool == {"role": "tool", "tool_call_id": "toolu_1", "content": "22 °C"}
    assert asked(models).tool_choice == "required"
    assert asked(models).tools == [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "description": "Tells the weather.",
                "parameters": WEATHER["input_schema"],
            },
        }
    ]


THINKS = says(
    Chunk(reasoning="Hm, "),
    Chunk(reasoning="well."),
    Chunk(extra=((THINKING_BLOCKS, SIGNED),)),
    Chunk(extra=((THINKING_BLOCKS, HIDDEN),)),
    "Yes.",
    END,
)
TOGETHER = says(
    Chunk(
        text="Yes.",
        reasoning="Hm, well.",
        extra=((THINKING_BLOCKS, SIGNED), (THINKING_BLOCKS, HIDDEN)),
    ),
    END,
)


@pytest.mark.parametrize("way", [whole, streamed])
@pytest.mark.parametrize("script", [THINKS, TOGETHER])
async def test_thinking_comes_with_its_signature_and_goes_back_with_it(
    script: Script, way: Any
) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 5000}
    message, _ = await way(script, max_tokens=9000, thinking=thinking)
    thought, hidden, text = message.content
    assert isinstance(thought, ThinkingBlock)
    assert (thought.thinking, thought.signature) == ("Hm, well.", "c2lnbmVk")
    assert isinstance(hidden, RedactedThinkingBlock)
    assert hidden.data == HIDDEN["data"]
    assert isinstance(text, TextBlock)
    models = Models(m=[says("So.", END)])
    client = await anthropic_client(models)
    back = [*HELLO, {"role": "assistant", "content": message.content}, *HELLO]
    await client.messages.create(
        model="m",
        max_tokens=9000,
        messages=back,
        thinking=thinking,
    )
    request = asked(models)
    assert request.extra[THINKING_BLOCKS] == {1: [SIGNED, HIDDEN]}
    assert request.extra[ANTHROPIC_PARAMETERS]["thinking"] == thinking
    assert request.reasoning_effort == "medium"
    assert request.messages[1]["role"] == "assistant"
    assert request.messages[1]["reasoning_content"] == "Hm, well."


async def test_reasoning_without_a_signature_is_a_thinking_block() -> None:
    message, _ = await whole(says(Chunk(reasoning="Hm."), "Yes.", END))
    assert isinstance(message.content[0], ThinkingBlock)
    assert (message.content[0].thinking, message.content[0].signature) == ("Hm.", "")


async def test_images_reach_the_model() -> None:
    image: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "aW1n"},
    }
    content = [{"type": "text", "text": "What is it?"}, image]
    _, models = await whole(says("A dog.", END), messages=[{"role": "user", "content": content}])
    assert asked(models).messages[0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aW1n"}},
    ]


class Sum(BaseModel):
    total: int


async def test_structured_output_is_parsed() -> None:
    models = Models(m=[says('{"total": 12}', END)])
    client = await anthropic_client(models)
    message = await client.messages.parse(
        model="m", max_tokens=100, messages=HELLO, output_format=Sum
    )
    assert message.parsed_output == Sum(total=12)
    form = asked(models).response_format
    assert form is not None
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"]["required"] == ["total"]


async def test_the_beta_client_works_too() -> None:
    client = await anthropic_client(Models(m=[says("Hi", END)]))
    message = await client.beta.messages.create(
        model="m", max_tokens=9, messages=HELLO, betas=["interleaved-thinking-2025-05-14"]
    )
    assert message.content[0].type == "text"


async def test_a_thread_is_refused_so_that_the_client_goes_on_without_one() -> None:
    """Its tool runner asks for one, and looks for these details."""
    client = await anthropic_client(Models(m=[says("Hi", END)]))
    with pytest.raises(anthropic.BadRequestError, match="send all messages each time") as raised:
        await client.beta.messages.create(
            model="m", max_tokens=9, messages=HELLO, extra_body={"thread": {"type": "create"}}
        )
    body: Any = raised.value.body
    assert body["error"]["details"]["error_code"] == "thread_unsupported_request"


async def test_routing_is_asked_for_in_the_extra_body() -> None:
    models = Models(a=[says("a", END)], b=[says("b", END)])
    client = await anthropic_client(models)
    message = await client.messages.create(
        model="auto", max_tokens=9, messages=HELLO, extra_body={"models": ["b"]}
    )
    assert message.model == "b"


@pytest.mark.parametrize(
    ("error", "kind", "type", "status"),
    [
        (RateLimited("slow down"), anthropic.RateLimitError, "rate_limit_error", 429),
        (ProviderError("it broke"), anthropic.InternalServerError, "api_error", 502),
        (
            ContextLengthExceeded("too long"),
            anthropic.BadRequestError,
            "invalid_request_error",
            400,
        ),
        (ModelUnavailable("none runs"), anthropic.InternalServerError, "api_error", 503),
        (DeadlineExceeded("late"), anthropic.InternalServerError, "timeout_error", 504),
        (Overloaded("full"), anthropic.InternalServerError, "overloaded_error", 529),
    ],
)
async def test_an_error_is_the_clients_own(
    error: LLMError, kind: type[anthropic.APIStatusError], type: str, status: int
) -> None:
    with pytest.raises(kind) as raised:
        await whole(says(error))
    assert (raised.value.status_code, raised.value.type) == (status, type)
    assert raised.value.api_message
    assert set(raised.value.body) == {"type", "error", "request_id"}  # type: ignore[call-overload]


async def test_unknown_models_keys_and_paths_are_the_clients_errors_too() -> None:
    with pytest.raises(anthropic.NotFoundError, match="there is no model 'claude'"):
        await whole(says("Hi", END), model="claude")
    key = {"name": "k", "sha256": "0" * 64}
    models = Models(m=[says("Hi", END)])
    client = await anthropic_client(models, allow_anonymous=False, keys=[key])
    with pytest.raises(anthropic.AuthenticationError) as raised:
        await client.messages.create(model="m", max_tokens=9, messages=HELLO)
    assert raised.value.type == "authentication_error"
    with pytest.raises(anthropic.AuthenticationError):
        await client.messages.count_tokens(model="m", messages=HELLO)


async def test_a_stream_that_breaks_off_raises_and_does_not_look_finished() -> None:
    script = says("Hi ", ProviderError("it broke"))
    with pytest.raises(anthropic.APIStatusError) as raised:
        await streamed(script)
    assert raised.value.type == "api_error"
    client = await anthropic_client(Models({"retries": 0}, m=[script]))
    raw = await client.messages.with_raw_response.create(
        model="m", max_tokens=9, messages=HELLO, stream=True
    )
    text = (await raw.http_response.aread()).decode()
    assert text.split("\n\n")[-2].startswith("event: error\n")
    assert "message_stop" not in text


async def test_the_requests_id_is_where_the_client_looks_for_it() -> None:
    """In a header of every reply, and in the body of an error."""
    proxied = {"x-request-id": "r-1"}  # by Ray's proxy
    ask: Any = {"model": "m", "max_tokens": 9, "messages": HELLO, "extra_headers": proxied}
    broken = says("Hi ", ProviderError("it broke"))
    client = await anthropic_client(Models({"retries": 0}, m=[says("Hi", END), broken]))
    assert (await client.messages.create(**ask))._request_id == "r-1"
    streaming = await client.messages.with_raw_response.create(**ask, stream=True)
    assert streaming.headers["request-id"] == "r-1"
    event = (await streaming.http_response.aread()).decode().split("\n\n")[-2]
    assert json.loads(event.partition("data: ")[2])["request_id"] == "r-1"
    with pytest.raises(anthropic.NotFoundError) as raised:
        await client.messages.create(**{**ask, "model": "claude"})
    assert raised.value.request_id == "r-1"
    assert raised.value.body["request_id"] == "r-1"  # type: ignore[index]
    counted = await client.messages.count_tokens(model="m", messages=HELLO, extra_headers=proxied)
    assert counted._request_id == "r-1"


async def test_a_stream_that_another_model_continues_is_one_message() -> None:
    """Which models wrote it is told beside Anthropic's own fields."""
    broken = [says("one ", ProviderError("it broke"))]
    models = Models({"retries": 0}, a=broken, b=[continues("one two")])
    client = await anthropic_client(models)
    async with client.messages.stream(
        model="auto", max_tokens=9, messages=HELLO, extra_body={"models": ["a", "b"]}
    ) as stream:
        events = [event async for event in stream]
        message = await stream.get_final_message()
    assert [block.to_dict()["text"] for block in message.content] == ["one two"]
    (end,) = [event for event in events if event.type == "message_delta"]
    router = end.to_dict()["router"]
    assert isinstance(router, dict)
    assert router["model"] == "b"
    assert [rescue["from"] for rescue in router["rescued"]] == ["a"]
