"""Promise: whatever a provider sends is an answer or an error of the provider's, never a crash."""

import asyncio
import dataclasses
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from math import isfinite
from types import SimpleNamespace
from typing import Any

from fuzzing import CALL, as_body, check_refusal, spoilt, unhurried
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from pydantic_core import to_json

from deployments.backends.openai_chunks import read
from deployments.backends.openai_endpoint.backend import OpenAIBackend
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.backends.provider_errors import by_status, explain
from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest, Chunk
from deployments.errors import LLMError

# --- names of tools ---

tool_names = st.lists(
    st.text("aA_/-.é", min_size=1, max_size=5)
    | st.text(min_size=1, max_size=256)
    | st.sampled_from(["x" * 64, "x" * 65, "x/" * 32, "_" * 64, "a__b_1f2e3d4c"]),
    min_size=1,
    max_size=128,
    unique=True,
)


@unhurried
@given(tool_names, tool_names)
def test_any_tools_go_out_safe_and_come_back_as_they_came(
    offered: list[str], called: list[str]
) -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name in called
    ]
    request = ChatRequest.model_validate(
        {
            "model": "m",
            "messages": [{"role": "assistant", "tool_calls": calls}],
            "tools": [{"type": "function", "function": {"name": name}} for name in offered],
            "tool_choice": {"type": "function", "function": {"name": offered[0]}},
        }
    )
    names = ToolNames.of(request)
    sent = [tool["function"]["name"] for tool in names.tools(request)]
    history = [call["function"]["name"] for call in names.messages(request)[0]["tool_calls"]]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in [*sent, *history])
    assert len(set(sent)) == len(sent)
    assert [names.original(name) for name in sent] == offered
    assert [names.original(name) for name in history] == called
    assert names.tool_choice(request)["function"]["name"] == sent[0]


# --- replies ---

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=2)
DELTAS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "some"},
    {"content": None, "reasoning_content": "thought", "reasoning": "thought"},
    {"tool_calls": [{"index": 0, **CALL}]},
    {"tool_calls": [{"index": 0, "function": {"name": None, "arguments": "{}"}}]},
]
LOGPROBS = {"content": [{"token": "some", "logprob": -1.0, "bytes": None, "top_logprobs": []}]}
USAGE = {
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
EVENTS: list[dict[str, Any]] = [
    *(
        {"choices": [{"delta": delta, "logprobs": LOGPROBS, "finish_reason": None}]}
        for delta in DELTAS
    ),
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE, "service_tier": "flex"},
]


async def sound(chunks: AsyncIterator[Chunk]) -> None:
    """Reads an answer to its end, which may be an error of ours; every chunk can be sent on."""
    try:
        async for chunk in chunks:
            to_json(dataclasses.asdict(chunk))
            assert isinstance(chunk.text + chunk.reasoning, str)
            if chunk.usage is not None:
                *tokens, tier = dataclasses.astuple(chunk.usage)
                assert all(isinstance(count, int) for count in tokens)
                assert tier is None or isinstance(tier, str)
    except LLMError as error:
        # 500 is for what nobody foresaw.
        check_refusal(error, [*range(400, 500), 502, 503, 504])


async def sent(events: list[Any]) -> AsyncIterator[Any]:
    for event in events:
        yield event


def as_object(value: Any) -> Any:
    """What LiteLLM makes of JSON: objects with attributes."""
    if isinstance(value, list):
        return [as_object(item) for item in value]
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(item) for key, item in value.items()})
    return value


@unhurried
@given(spoilt(EVENTS), st.sampled_from(["json", "openai", "litellm"]))
async def test_any_events_of_a_stream_are_chunks_or_a_fault_of_the_provider(
    events: Any, form: str
) -> None:
    def made(event: Any) -> Any:
        if form == "json":
            return event
        if form == "openai" and isinstance(event, dict):
            return ChatCompletionChunk.construct(**event)
        return as_object(event)

    chunks = read(
        sent([made(event) for event in events] if isinstance(events, list) else [made(events)]),
        REQUEST,
        ToolNames.of(REQUEST),
        silence=5,
        context_window=None,
    )
    await sound(chunks)


ERROR = {"error": {"message": "no", "type": "t", "param": "p", "code": 400}}


def as_events(values: Any) -> bytes:
    """A stream of server-sent events."""
    return b"".join(b"data: %s\n\n" % as_body(value) for value in values or [])


WHOLE = {
    "choices": [{"message": {"content": "some", "tool_calls": [CALL]}, "finish_reason": "stop"}],
    "usage": USAGE,
}

lines = st.sampled_from(["data: [DONE]", "data: {", ": ping", "event: error", "data:", "\n", "\r"])
contents = (
    st.lists(st.sampled_from([*EVENTS, ERROR]).flatmap(spoilt), max_size=6).map(as_events)
    | st.sampled_from([ERROR, WHOLE]).flatmap(spoilt).map(as_body)
    | st.lists(lines | st.text(max_size=3)).map(lambda lines: "\n".join(lines).encode())
    | st.binary()
)
fields = st.fixed_dictionaries(
    {"content-type": st.sampled_from(["text/event-stream", "application/json", "nonsense"])},
    optional={
        "retry-after": st.sampled_from(["1", "nan", "-1", "1e999", "soon", ""]),
        "content-encoding": st.sampled_from(["gzip", "identity", "nonsense"]),
        "content-length": st.sampled_from(["0", "5", "-1", "x"]),
        "transfer-encoding": st.just("chunked"),
        "location": st.sampled_from(["", "/v1", "ftp://x", "http://", "http://[", "//"]),
    },
)


def as_response(status: int, headers: dict[str, str], content: bytes) -> bytes:
    """An HTTP response, of which any part may be wrong."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + content


responses = st.builds(as_response, st.just(200) | st.integers(200, 599), fields, contents)


@asynccontextmanager
async def replying(response: bytes, size: int) -> AsyncIterator[str]:
    """The URL of a server that sends these bytes, so many at a time, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for at in range(0, len(response), size):
            writer.write(response[at : at + size])
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@unhurried
@given(responses | st.binary(), st.integers(1, 1000), st.booleans())
async def test_any_reply_of_a_server_is_an_answer_or_a_fault_of_the_provider(
    response: bytes, size: int, whole: bool
) -> None:
    """By the real client, over a real connection."""
    async with replying(response, size) as url:
        backend = OpenAIBackend(
            EndpointConfig(name="m", backend="vllm", hostname=url, whole=whole, timeout=5)
        )
        try:
            await sound(backend.chat(REQUEST))
        finally:
            await backend.aclose()


dates = st.datetimes(min_value=datetime(1, 1, 2)).map(
    lambda when: format_datetime(when.replace(tzinfo=UTC), usegmt=True)
)
waits = st.text() | st.floats().map(str) | st.integers().map(str) | dates


@unhurried
@given(waits | st.tuples(waits, waits).map(" ".join))
def test_any_retry_after_is_seconds_or_nothing(value: str) -> None:
    for kind in (by_status(429), by_status(503)):
        seconds = explain(kind, "m", headers={"retry-after": value}).retry_after
        assert seconds is None or (isfinite(seconds) and seconds >= 0)
