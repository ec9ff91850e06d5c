"""Promise: turns of a coding agent go through the Messages API without a field lost, either way."""

import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from anthropic.types import Message
from anthropic_client import anthropic_client
from scripted_models import Models, Script

from deployments.contract import ChatRequest, Chunk, ToolCallDelta, Usage
from deployments.extras import CACHED_TOOLS, THINKING_BLOCKS

RECORDED = yaml.safe_load(
    (Path(__file__).parents[3] / "support/coding_agent_turns.yaml").read_text("utf-8")
)
REASONS: dict[str, Any] = {"max_tokens": "length", "refusal": "content_filter"}
# What only says how the rest is written.
FORM = {"type", "role", "media_type", "ttl", "eager_input_streaming", "citations", "is_error"}


def bodies() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each turn's name, its request and the turn."""
    history: list[dict[str, Any]] = []
    for turn in RECORDED["turns"]:
        history = [] if turn.get("begins") else history
        history = [*history, {"role": "user", "content": turn["user"]}, *turn.get("more", [])]
        messages = [*history]
        if "prefill" in turn:
            messages.append({"role": "assistant", "content": turn["prefill"]})
        body = {
            "model": "m",
            "system": RECORDED["system"],
            "tools": RECORDED["tools"],
            **RECORDED["fields"],
            **turn.get("with", {}),
            "messages": messages,
        }
        history.append({"role": "assistant", "content": turn["reply"]})
        yield turn["about"], body, turn


TURNS = list(bodies())
turns = pytest.mark.parametrize(("body", "turn"), [t[1:] for t in TURNS], ids=[t[0] for t in TURNS])


def says(turn: dict[str, Any]) -> Script:
    """A model that writes the turn's reply: text and reasoning in two pieces, calls at once."""
    calls = [block for block in turn["reply"] if block["type"] == "tool_use"]

    async def script(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        for block in turn["reply"]:
            match block["type"]:
                case "text":
                    for piece in halves(block["text"]):
                        yield Chunk(text=piece)
                case "thinking":
                    for piece in halves(block["thinking"]):
                        yield Chunk(reasoning=piece)
                    yield Chunk(extra=((THINKING_BLOCKS, block),))
                case "redacted_thinking":
                    yield Chunk(extra=((THINKING_BLOCKS, block),))
        written = [halves(json.dumps(call["input"])) for call in calls]
        for at, call in enumerate(calls):
            yield Chunk(tool_calls=(ToolCallDelta(at, call["id"], call["name"], written[at][0]),))
        for at in range(len(calls)):
            yield Chunk(tool_calls=(ToolCallDelta(at, arguments=written[at][1]),))
        reason = REASONS.get(turn.get("stop", ""), "tool_calls" if calls else "stop")
        yield Chunk(finish_reason=reason, usage=Usage(12_345, 67, cached_tokens=12_000))

    return script


def halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


async def sent(body: dict[str, Any], turn: dict[str, Any], *, stream: bool) -> tuple[Any, Models]:
    """The message that the client holds in the end."""
    models = Models({"capabilities": ["tools", "json", "images"]}, m=[says(turn)])
    client = await anthropic_client(models)
    asked: dict[str, Any] = {
        "path": "/v1/messages?beta=true",
        "cast_to": Message,
        "body": {**body, "stream": stream},
        "options": {"headers": {"anthropic-beta": RECORDED["beta"]}},
    }
    if not stream:
        return await client.post(**asked), models
    given = {name: body[name] for name in ("model", "max_tokens", "messages")}
    rest = {name: value for name, value in body.items() if name not in given}
    async with client.messages.stream(**given, extra_body=rest) as events:
        return await events.get_final_message(), models


def leaves(value: Any, key: str = "") -> Iterator[str]:
    """All texts and numbers within a value, and what a call's arguments hold."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "arguments" and isinstance(inner, str):
                yield from leaves(json.loads(inner))
            elif name not in FORM or isinstance(inner, dict):
                yield str(name)
                yield from leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    elif value is not None:
        yield str(value)


def values(value: Any) -> Iterator[str]:
    """As `leaves`, without the fields' names that the two APIs give to the same thing."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("input", "input_schema"):
                yield from leaves(inner)
            elif name not in FORM:
                yield from values(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from values(inner)
    elif value is not None:
        yield str(value)


def marks(value: Any) -> int:
    """How many marks for the cache there are."""
    if isinstance(value, dict):
        inner = sum(map(marks, value.values()))
        return inner + (value.get("cache_control") is not None)
    return sum(map(marks, value)) if isinstance(value, list) else 0


@turns
async def test_all_of_a_request_reaches_the_model_and_all_of_its_reply_the_agent(
    body: Any, turn: Any
) -> None:
    message, models = await sent(body, turn, stream=False)
    check_reply(message, turn)
    request = models.asked[0][1]
    reached = [request.messages, request.tools or [], dict(request.extra)]
    there = set(leaves([*reached, request.parameters()]))
    together = "\n".join(there)
    prompt = [body["messages"], body["system"], body["tools"]]
    assert [value for value in values(prompt) if value not in together] == []
    cached = request.extra.get(CACHED_TOOLS, {})
    assert marks(request.messages) + len(cached) == marks(prompt)
    failed = [
        block["tool_use_id"]
        for message in body["messages"]
        for block in message["content"]
        if isinstance(block, dict) and block.get("is_error")
    ]
    told = {m["tool_call_id"]: m["content"] for m in request.messages if m["role"] == "tool"}
    assert [id for id, said in told.items() if str(said).startswith("Error: ")] == failed
    assert request.max_tokens == body["max_tokens"]
    assert request.user == "user_5f2c_account_0b1d_session_77aa"
    assert request.continue_final_message == ("prefill" in turn or None)
    check_order(request)


def check_order(request: ChatRequest) -> None:
    """Results follow their calls at once, as OpenAI's format asks for."""
    waiting: list[str] = []
    for message in request.messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] == waiting.pop(0)
        else:
            assert not waiting
        if message["role"] == "assistant":
            waiting = [call["id"] for call in message.get("tool_calls") or ()]


@turns
async def test_all_of_a_streamed_reply_reaches_the_agent(body: Any, turn: Any) -> None:
    message, _ = await sent(body, turn, stream=True)
    check_reply(message, turn)


def check_reply(message: Message, turn: dict[str, Any]) -> None:
    said = [block.to_dict(exclude_none=True) for block in message.content]
    assert said == turn["reply"]
    uses = any(block["type"] == "tool_use" for block in turn["reply"])
    assert message.stop_reason == turn.get("stop", "tool_use" if uses else "end_turn")
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (345, 12_000)


async def test_thinking_goes_back_at_its_place() -> None:
    body, turn = next(t[1:] for t in TURNS if t[0].startswith("a file with line numbers"))
    _, models = await sent(body, turn, stream=False)
    request = models.asked[0][1]
    for at, blocks in request.extra[THINKING_BLOCKS].items():
        assert request.messages[at]["role"] == "assistant"
        before = [m for m in body["messages"] if m["role"] == "assistant"]
        of_all = [[b for b in m["content"] if "thinking" in b["type"]] for m in before]
        assert blocks in of_all
    assert len(request.extra[THINKING_BLOCKS]) == 2


def test_there_are_enough_turns() -> None:
    assert len(TURNS) >= 18
