"""Promise: a replica measures each of its answers, and changes none."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from recorded import Recorded

from deployments.contract import ChatRequest, Chunk, Usage
from deployments.errors import ProviderError
from deployments.replicas.measuring import measured

DURATION = "gen_ai_server_request_duration_seconds_count"
FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds"
TOKEN_TIME = "gen_ai_server_time_per_output_token_seconds"
PAUSE_S = 0.05


async def answer(*chunks: Chunk | Exception) -> AsyncGenerator[Chunk, None]:
    for chunk in chunks:
        await asyncio.sleep(PAUSE_S)
        if isinstance(chunk, Exception):
            raise chunk
        yield chunk


def asked(model: str, *, stream: bool = True) -> ChatRequest:
    messages: Any = [{"role": "user", "content": "Count."}]
    return ChatRequest(model=model, messages=messages, stream=stream)


END = Chunk(finish_reason="stop", usage=Usage(5, 3))


async def test_a_complete_stream_has_a_time_to_its_first_token_and_for_each_other() -> None:
    recorded, chunks = Recorded(), [Chunk(), Chunk(text="one"), Chunk(text="two"), END]
    assert [c async for c in measured(answer(*chunks), asked("good"), "bedrock")] == chunks
    call = {"gen_ai_provider_name": "aws.bedrock", "gen_ai_request_model": "good"}
    assert recorded(DURATION, **call, error_type="", gen_ai_response_model="good") == 1
    first = recorded(f"{FIRST_TOKEN}_sum", **call)
    assert first >= 2 * PAUSE_S, "an empty chunk is no token"
    assert recorded(f"{TOKEN_TIME}_sum", **call) >= PAUSE_S, "two pauses for two further tokens"


async def test_only_streams_have_times_of_tokens() -> None:
    recorded, chunks = Recorded(), [Chunk(text="one two"), END]
    async for _ in measured(answer(*chunks), asked("whole", stream=False), "x"):
        pass
    assert recorded(DURATION, gen_ai_request_model="whole") == 1
    for name in (FIRST_TOKEN, TOKEN_TIME):
        assert recorded(f"{name}_count", gen_ai_request_model="whole") == 0


@pytest.mark.parametrize(
    ("error", "code"), [(ProviderError("cut"), "provider_error"), (OSError(), "internal_error")]
)
async def test_a_failed_answer_is_counted_by_its_error(error: Exception, code: str) -> None:
    recorded = Recorded()
    with pytest.raises(type(error)):
        [c async for c in measured(answer(Chunk(text="one"), error), asked("bad"), "x")]
    call = {"gen_ai_request_model": "bad", "gen_ai_response_model": ""}
    assert recorded(DURATION, **call, error_type=code) == 1
    assert recorded(f"{FIRST_TOKEN}_count", gen_ai_request_model="bad") == 0


async def test_an_answer_that_nobody_reads_to_its_end_is_cancelled_and_its_backend_closed() -> None:
    recorded, backend = Recorded(), answer(Chunk(text="one"), END)
    async with aclosing(measured(backend, asked("left"), "x")) as chunks:
        await anext(chunks)
    assert recorded(DURATION, gen_ai_request_model="left", error_type="cancelled") == 1
    with pytest.raises(StopAsyncIteration):
        await anext(backend)
