"""From an answer to what OpenAI's clients read: a completion, or a stream of events.

Source: https://platform.openai.com/docs/api-reference/chat/object and …/chat-streaming
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pydantic_core import to_json

from deployments.contract import Chunk, ToolCallDelta, Usage
from serve.answer import Answer
from serve.http.event_stream import broken_off, event
from serve.http.failures import error_json
from serve.http.middleware.access_log import Access

DONE = b"data: [DONE]\n\n"


def completion(answer: Chunk, *, id: str, model: str) -> dict[str, Any]:
    """The `chat.completion` object for a whole answer."""
    content = answer.text if answer.text or not answer.tool_calls else None
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    if answer.tool_calls:
        message["tool_calls"] = [_tool_call(call) for call in answer.tool_calls]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": {"content": list(answer.logprobs)} if answer.logprobs else None,
        "finish_reason": answer.finish_reason,
    }
    return {
        **_head("chat.completion", id, model),
        "choices": [choice],
        "usage": usage_of(answer.usage),
    }


async def events(
    answer: Answer, *, include_usage: bool, access: Access
) -> AsyncGenerator[bytes, None]:
    """The server-sent events of a streamed answer.

    An error in mid-stream is the last event, and no `[DONE]` follows: a cut answer must not look
    finished. The event with the finish reason has a `router` field beside OpenAI's: what the
    headers of a whole answer say, and which models broke off.

    Args:
        answer: the answer.
        include_usage: whether to end with an event that has the usage.
        access: records how the stream ended.
    """
    head = _head("chat.completion.chunk", answer.id, answer.model)
    start = _start(head)
    role: dict[str, Any] = {"role": "assistant", "content": ""}
    finish_reason = None
    try:
        async with aclosing(answer):
            async for chunk in answer:
                finish_reason = chunk.finish_reason or finish_reason
                if head["model"] != answer.model:
                    head["model"] = answer.model
                    start = _start(head)
                if not role and _is_text_alone(chunk):
                    yield b"".join((start, _TEXT, to_json(chunk.text), _END_OF_TEXT))
                elif delta := {**role, **_delta(chunk)}:
                    yield (
                        start
                        + to_json(_stream_choice(delta, chunk, None), inf_nan_mode="null")
                        + _END
                    )
                    role = {}
        end = {**head, "choices": [_stream_choice({}, Chunk(), finish_reason)]}
        access.model, access.attempts, access.cost = answer.model, answer.attempts, answer.cost
        last = [event({**end, "router": router_of(answer)})]
        if include_usage:
            last.append(event({**head, "choices": [], "usage": usage_of(answer.total_usage)}))
        yield b"".join((*last, DONE))
    except Exception as failure:  # noqa: BLE001 - whatever it is, the caller is told
        yield event(error_json(broken_off(failure, answer, access)))


# An event with a choice is the start that all events of a stream share, the choice, and this end.
_END = b"]}\n\n"
_TEXT = b'{"index":0,"delta":{"content":'
_END_OF_TEXT = b'},"logprobs":null,"finish_reason":null}' + _END


def _start(head: dict[str, Any]) -> bytes:
    return b"data: " + to_json({**head, "choices": []}).removesuffix(b"]}")


def _is_text_alone(chunk: Chunk) -> bool:
    return bool(chunk.text) and not (chunk.reasoning or chunk.tool_calls or chunk.logprobs)


def router_of(answer: Answer) -> dict[str, Any]:
    said: dict[str, Any] = {
        "model": answer.model,
        "attempts": answer.attempts,
        "cost": answer.cost,
    }
    if answer.rescues:
        said["rescued"] = [
            {
                "from": rescue.model,
                "error": rescue.error,
                "characters": rescue.characters,
                "reasoning_characters": rescue.reasoning_characters,
                "mode": rescue.mode,
            }
            for rescue in answer.rescues
        ]
        broken = [_share(rescue.model, None, None) for rescue in answer.rescues]
        said["usage"] = [*broken, _share(answer.model, answer.usage, answer.cost)]
    return said


def _share(model: str, usage: Usage | None, cost: float | None) -> dict[str, Any]:
    """One model's share of the usage; null for one that broke off, which reports none."""
    return {
        "model": model,
        "prompt_tokens": usage and usage.prompt_tokens,
        "completion_tokens": usage and usage.completion_tokens,
        "cost": cost,
    }


def _head(object: str, id: str, model: str) -> dict[str, Any]:
    return {"id": id, "object": object, "created": int(time.time()), "model": model}


def _delta(chunk: Chunk) -> dict[str, Any]:
    delta: dict[str, Any] = {}
    if chunk.text:
        delta["content"] = chunk.text
    if chunk.reasoning:
        delta["reasoning_content"] = chunk.reasoning
    if chunk.tool_calls:
        delta["tool_calls"] = [_tool_call_delta(call) for call in chunk.tool_calls]
    return delta


def _stream_choice(
    delta: dict[str, Any], chunk: Chunk, finish_reason: str | None
) -> dict[str, Any]:
    logprobs = {"content": list(chunk.logprobs)} if chunk.logprobs else None
    return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _tool_call(call: ToolCallDelta) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _tool_call_delta(call: ToolCallDelta) -> dict[str, Any]:
    """The first piece of a tool call has its id, type and name; later ones only arguments."""
    if call.id or call.name:
        return {"index": call.index, **_tool_call(call)}
    return {"index": call.index, "function": {"arguments": call.arguments}}


def usage_of(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        # OpenAI has no field for tokens written to the cache; this one is LiteLLM's.
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_creation_tokens": usage.cache_written_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
