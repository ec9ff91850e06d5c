"""Promise: what Anthropic's models sign of their reasoning comes signed and goes back signed."""

import json
from typing import Any

import pytest
from asking import answer_to, ask
from fake_providers import DONE, SOME, STOP, serving, streaming, usage
from litellm_support import Connect

from deployments.contract import ChatRequest
from deployments.extras import ANTHROPIC_PARAMETERS, CACHED_TOOLS, THINKING_BLOCKS

SIGNED = {"type": "thinking", "thinking": "Hm, well.", "signature": "c2lnbmVk"}
SECOND = {"type": "thinking", "thinking": "So.", "signature": "c2Vjb25k"}
HIDDEN = {"type": "redacted_thinking", "data": "aGlkZGVu"}
UNSIGNED = {"type": "thinking", "thinking": "Another model's.", "signature": ""}
SHORT = {"type": "ephemeral"}
CLAUDE = "claude-sonnet-4-5"


def event(type: str, **fields: Any) -> str:
    return f"event: {type}\ndata: {json.dumps({'type': type, **fields})}\n\n"


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[str]:
    return [
        event("content_block_start", index=index, content_block=start),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def thought(index: int, text: list[str], signature: str) -> list[str]:
    return block(
        index,
        {"type": "thinking", "thinking": "", "signature": ""},
        *({"type": "thinking_delta", "thinking": piece} for piece in text),
        {"type": "signature_delta", "signature": signature},
    )


MESSAGE = {"id": "1", "type": "message", "role": "assistant", "model": "m", "content": []}
ANSWER = [
    event("message_start", message={**MESSAGE, "usage": {"input_tokens": 5, "output_tokens": 1}}),
    *thought(0, ["Hm, ", "well."], SIGNED["signature"]),
    *block(1, HIDDEN),
    *thought(2, ["So."], SECOND["signature"]),
    *block(3, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Yes."}),
    event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}),
    event("message_stop"),
]


def turn() -> ChatRequest:
    """A conversation whose second message was reasoned, and a tool that is cached."""
    call = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "Look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "4"},
    ]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    request = ask(messages=messages, tools=[tool], max_tokens=9000, reasoning_effort="medium")
    thinking = {"type": "enabled", "budget_tokens": 5000}
    return request.with_extra(
        **{
            THINKING_BLOCKS: {1: [SIGNED, HIDDEN, UNSIGNED]},
            CACHED_TOOLS: {0: SHORT},
            ANTHROPIC_PARAMETERS: {"thinking": thinking, "reasoning_effort": None},
        }
    )


async def test_each_block_comes_whole_with_its_signature(connect: Connect) -> None:
    with serving(streaming(*ANSWER)) as fake:
        answer = await answer_to(connect("anthropic", fake.url, model=CLAUDE), ask())
    assert answer.extra == tuple((THINKING_BLOCKS, said) for said in (SIGNED, HIDDEN, SECOND))
    assert (answer.reasoning, answer.text) == ("Hm, well.So.", "Yes.")


async def test_they_go_back_as_they_were_with_the_budget_and_the_marks(connect: Connect) -> None:
    with serving(streaming(*ANSWER)) as fake:
        await answer_to(connect("anthropic", fake.url, model=CLAUDE), turn())
    sent = fake.requests[0]
    kinds = [part["type"] for part in sent["messages"][1]["content"]]
    assert kinds == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert sent["messages"][1]["content"][:2] == [SIGNED, HIDDEN]
    assert sent["thinking"] == {"type": "enabled", "budget_tokens": 5000}
    assert "output_config" not in sent
    assert sent["tools"][0]["cache_control"] == SHORT


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
async def test_other_models_are_not_sent_them(connect: Connect, provider: str) -> None:
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        await answer_to(connect(provider, fake.url, model="gpt-5"), turn())
    sent = fake.requests[0]
    assert "thinking" not in sent
    assert "thinking_blocks" not in sent["messages"][1]
    assert "cache_control" not in sent["tools"][0]
    assert sent["reasoning_effort"] == "medium"
