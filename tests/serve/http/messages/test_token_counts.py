"""Promise: Anthropic's client is told about how many tokens a request has, without an answer."""

from typing import Any

import anthropic
import pytest
from anthropic_client import anthropic_client
from scripted_models import Models, says

from deployments.contract import Chunk, Usage

END = Chunk(finish_reason="stop", usage=Usage(360, 7))
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def test_tokens_are_counted_by_estimate() -> None:
    models = Models(m=[says("Hi", END)])
    client = await anthropic_client(models)
    text: Any = {"type": "text", "text": "x" * 400}
    image: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "aW1n"},
    }

    async def count(content: list[Any], **more: Any) -> int:
        messages: list[Any] = [{"role": "user", "content": content}]
        counted = await client.messages.count_tokens(model="m", messages=messages, **more)
        return counted.input_tokens

    assert await count([text]) == 100
    assert await count([text], system="y" * 40) == 110
    assert await count([text, image]) == 1700
    assert await count([text], tools=[WEATHER]) > 110
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.count_tokens(model="claude", messages=HELLO)
    assert models.asked == []


async def test_a_streams_first_event_has_the_same_estimate_as_the_count() -> None:
    models = Models({"capabilities": ["images"]}, m=[says("A dog.", END)])
    client = await anthropic_client(models)
    source = {"type": "base64", "media_type": "image/png", "data": "aW1n"}
    content: Any = [{"type": "image", "source": source}, {"type": "text", "text": "x" * 400}]
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": content}]}
    counted = await client.messages.count_tokens(**asked)
    stream = await client.messages.create(**asked, max_tokens=9, stream=True)
    (start,) = [event async for event in stream if event.type == "message_start"]
    assert start.message.usage.input_tokens == counted.input_tokens == 1700
