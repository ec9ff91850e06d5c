"""Promise: whatever a provider streams is an answer or the provider's error, never a crash."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from asking import ask
from fuzzing import as_body, check_refusal, spoilt, unhurried
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from deployments.backends.litellm.backend import LiteLLMBackend
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.litellm.openai_requests import OpenAIStream
from deployments.errors import LLMError

CALL = {"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}
LOGPROBS = {"content": [{"token": "some", "logprob": -1.0, "bytes": None, "top_logprobs": []}]}
DELTAS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "some"},
    {"content": "more"},
    {"content": None, "reasoning_content": "thought", "reasoning": "thought"},
    {"tool_calls": [CALL]},
]
USAGE = {
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "prompt_tokens_details": {"cached_tokens": 0},
}
EVENTS: list[dict[str, Any]] = [
    *({"choices": [{"delta": delta, "finish_reason": None}]} for delta in DELTAS),
    {"choices": [{"delta": DELTAS[0], "logprobs": LOGPROBS}]},
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE, "service_tier": "flex"},
]
ERROR = {"error": {"message": "no", "code": 400}}
events = st.lists(
    st.sampled_from([*EVENTS, ERROR]).flatmap(spoilt).map(as_body)
    | st.sampled_from([b"[DONE]", b"{", b""]),
    max_size=8,
) | spoilt(EVENTS).filter(lambda value: isinstance(value, list)).map(
    lambda values: [as_body(value) for value in values]
)


@unhurried
@given(events, st.booleans())
async def test_any_events_are_an_answer_or_a_fault_of_the_provider(
    sent: list[bytes], is_whole: bool
) -> None:
    backend = LiteLLMBackend(
        LiteLLMConfig(name="ours", backend="openai", model="m", hostname="http://127.0.0.1:9")
    )
    content = b"".join(b"data: %s\n\n" % event for event in sent)
    request = httpx.Request("POST", "http://127.0.0.1:9")

    async def complete(*call: Any) -> Any:
        stream = OpenAIStream(httpx.Response(200, content=content, request=request))
        return SimpleNamespace(completion_stream=stream, aclose=stream.aclose)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deployments.backends.litellm.backend.complete", complete)
        try:
            async for piece in backend.chat(ask(stream=not is_whole)):
                to_json(dataclasses.asdict(piece))
        except LLMError as error:
            # 500 is for what nobody foresaw.
            check_refusal(error, [*range(400, 500), 502, 503, 504])
