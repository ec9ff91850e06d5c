"""From an answer to what clients of legacy completions read: an object, or a stream of events.

Source: https://platform.openai.com/docs/api-reference/completions/object
"""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import accumulate
from typing import Any

from deployments.contract import Chunk
from serve.answer import Answer
from serve.http.chat.replies import DONE, router_of, usage_of
from serve.http.event_stream import broken_off, event
from serve.http.failures import error_json
from serve.http.middleware.access_log import Access


def completion(answer: Chunk, *, id: str, model: str) -> dict[str, Any]:
    """The `text_completion` object for a whole answer."""
    return {
        **_head(id, model),
        "choices": [_choice(answer, 0, answer.finish_reason)],
        "usage": usage_of(answer.usage),
    }


async def events(
    answer: Answer, *, include_usage: bool, access: Access
) -> AsyncGenerator[bytes, None]:
    """The server-sent events of a streamed answer, each a `text_completion` with a piece of it.

    As in a chat, an error in mid-stream is the last event and no `[DONE]` follows; the event with
    the finish reason has a `router` field.

    Args:
        answer: the answer.
        include_usage: whether to end with an event that has the usage.
        access: records how the stream ended.
    """
    head = _head(answer.id, answer.model)
    finish_reason, offset = None, 0
    try:
        async with aclosing(answer):
            async for chunk in answer:
                finish_reason = chunk.finish_reason or finish_reason
                head["model"] = answer.model
                if chunk.text or chunk.logprobs:
                    yield event({**head, "choices": [_choice(chunk, offset, None)]})
                    offset += len(chunk.text)
        access.model, access.attempts, access.cost = answer.model, answer.attempts, answer.cost
        end = _choice(Chunk(), offset, finish_reason)
        last = [event({**head, "choices": [end], "router": router_of(answer)})]
        if include_usage:
            last.append(event({**head, "choices": [], "usage": usage_of(answer.total_usage)}))
        yield b"".join((*last, DONE))
    except Exception as failure:  # noqa: BLE001 - whatever it is, the caller is told
        yield event(error_json(broken_off(failure, answer, access)))


def _head(id: str, model: str) -> dict[str, Any]:
    return {"id": id, "object": "text_completion", "created": int(time.time()), "model": model}


def _choice(piece: Chunk, offset: int, finish_reason: str | None) -> dict[str, Any]:
    """A choice with a piece of the answer.

    Args:
        piece: the piece.
        offset: characters of the answer before it.
        finish_reason: OpenAI's, once the answer has ended.
    """
    return {
        "index": 0,
        "text": piece.text,
        "logprobs": _logprobs(piece.logprobs, offset),
        "finish_reason": finish_reason,
    }


def _logprobs(entries: Sequence[dict[str, Any]], offset: int) -> dict[str, Any] | None:
    """The tokens in this API's form: a list for each of their properties."""
    if not entries:
        return None
    tokens = [str(entry.get("token") or "") for entry in entries]
    lengths = accumulate((len(token) for token in tokens[:-1]), initial=offset)
    return {
        "tokens": tokens,
        "token_logprobs": [entry.get("logprob") for entry in entries],
        "top_logprobs": [
            {top["token"]: top["logprob"] for top in entry.get("top_logprobs") or ()}
            for entry in entries
        ],
        "text_offset": list(lengths),
    }
