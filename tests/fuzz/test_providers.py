"""Promise: whatever a provider sends is an answer or an error of the provider's, never a crash."""

import dataclasses
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from math import isfinite
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
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
@given(spoilt(EVENTS), st.booleans())
async def test_any_events_of_a_stream_are_chunks_or_a_fault_of_the_provider(
    events: Any, by_openai: bool
) -> None:
    def made(event: Any) -> Any:
        if by_openai and isinstance(event, dict):
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


lines = st.sampled_from(["data: [DONE]", "data: {", ": ping", "event: error", "data:", "\n", "\r"])
replies = st.builds(
    httpx.Response,
    st.just(200) | st.integers(200, 599),
    headers=st.fixed_dictionaries(
        {"content-type": st.sampled_from(["text/event-stream", "application/json", "nonsense"])},
        optional={"retry-after": st.sampled_from(["1", "nan", "-1", "1e999", "soon", ""])},
    ),
    content=st.lists(st.sampled_from([*EVENTS, ERROR]).flatmap(spoilt), max_size=6).map(as_events)
    | spoilt(ERROR).map(as_body)
    | st.lists(lines | st.text(max_size=3)).map(lambda lines: "\n".join(lines).encode())
    | st.binary(),
)


@unhurried
@given(replies)
async def test_any_reply_of_a_server_is_an_answer_or_a_fault_of_the_provider(
    reply: httpx.Response,
) -> None:
    """The real client, with its own reading of events and errors."""
    transport = httpx.MockTransport(lambda request: reply)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            openai, "DefaultAsyncHttpxClient", lambda **_: httpx.AsyncClient(transport=transport)
        )
        backend = OpenAIBackend(
            EndpointConfig(name="m", backend="vllm", hostname="http://127.0.0.1:9")
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
