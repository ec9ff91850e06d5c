"""From an answer to the events of Anthropic's streams.

Source: https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from deployments.contract import Chunk
from serve.answer import Answer
from serve.http.chat.replies import router_of
from serve.http.event_stream import broken_off, event
from serve.http.messages.blocks import Blocks
from serve.http.messages.errors import error_json
from serve.http.messages.replies import ending, head, usage
from serve.http.middleware.access_log import Access


async def events(
    answer: Answer, *, input_tokens: int, request_id: str | None, access: Access
) -> AsyncGenerator[bytes, None]:
    """The server-sent events of a streamed message.

    An error in mid-stream is the last event, and no `message_stop` follows: a cut answer must not
    look finished. `message_delta` has a `router` field beside Anthropic's: what the headers of a
    whole answer say, and which models broke off.

    Args:
        answer: the answer.
        input_tokens: of the prompt, estimated: `message_start` comes before a model counts them,
            `message_delta` has the count.
        request_id: the request's.
        access: records how the stream ended.
    """
    blocks, last = Blocks(), [Chunk()]
    try:
        async with aclosing(answer):
            yield _bytes([_start(answer, input_tokens)])
            async for chunk in answer:
                if chunk.finish_reason or chunk.extra:
                    last.append(chunk)
                if said := _bytes(blocks.add(chunk)):
                    yield said
        access.model, access.attempts, access.cost = answer.model, answer.attempts, answer.cost
        end = {
            "type": "message_delta",
            "delta": ending(last),
            "usage": usage(answer.total_usage),
            "router": router_of(answer),
        }
        yield _bytes([*blocks.end(), end, {"type": "message_stop"}])
    except Exception as failure:  # noqa: BLE001 - whatever it is, the caller is told
        yield _bytes([error_json(broken_off(failure, answer, access), request_id)])


def _start(answer: Answer, input_tokens: int) -> dict[str, Any]:
    begun = {
        **head(answer),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": 0},
    }
    return {"type": "message_start", "message": begun}


def _bytes(said: Iterable[dict[str, Any]]) -> bytes:
    return b"".join([event(one, one["type"]) for one in said])
