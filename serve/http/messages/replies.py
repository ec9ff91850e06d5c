"""From an answer to Anthropic's message.

Source: https://docs.anthropic.com/en/api/messages
"""

from collections.abc import Sequence
from typing import Any

from deployments.answer import FinishReason
from deployments.contract import Chunk, Usage
from deployments.extras import STOP_SEQUENCE
from serve.answer import Answer
from serve.http.messages.blocks import Blocks, content

_STOPS: dict[FinishReason | None, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_TIERS = ("standard", "priority", "batch")


async def message(answer: Answer) -> dict[str, Any]:
    """The `message` object for an answer, which is read to its end."""
    chunks = [chunk async for chunk in answer]
    blocks = Blocks()
    events = [event for chunk in chunks for event in blocks.add(chunk)]
    events += blocks.end()
    end = ending(chunks)
    return {
        **head(answer),
        "content": content(events, cut=end["stop_reason"] == "max_tokens"),
        **end,
        "usage": usage(answer.total_usage),
    }


def head(answer: Answer) -> dict[str, Any]:
    """What is known of a message once it has begun."""
    return {"id": answer.id, "type": "message", "role": "assistant", "model": answer.model}


def ending(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """Why the answer ended. Which string stopped it is known only of some backends; with others it
    is like any end."""
    reason = next((chunk.finish_reason for chunk in reversed(chunks) if chunk.finish_reason), None)
    stop = next(
        (value for chunk in chunks for key, value in chunk.extra if key == STOP_SEQUENCE), None
    )
    if reason == "stop" and stop is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": stop}
    return {"stop_reason": _STOPS.get(reason, "end_turn"), "stop_sequence": None}


def usage(used: Usage | None) -> dict[str, Any]:
    """Tokens as Anthropic counts them: those of the cache are not among `input_tokens`."""
    if used is None:
        return {"input_tokens": 0, "output_tokens": 0}
    cached, written, hour = (
        used.cached_tokens,
        used.cache_written_tokens,
        used.cache_written_1h_tokens,
    )
    return {
        "input_tokens": max(used.prompt_tokens - cached - written, 0),
        "output_tokens": used.completion_tokens,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "cache_creation": {
            "ephemeral_5m_input_tokens": max(written - hour, 0),
            "ephemeral_1h_input_tokens": hour,
        },
        "output_tokens_details": {"thinking_tokens": used.reasoning_tokens},
        "service_tier": used.service_tier if used.service_tier in _TIERS else None,
    }
