"""Server-sent events: one event, the response for a streamed answer, and how one breaks off.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import logging
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.errors import LLMError
from serve.answer import Answer
from serve.http.middleware.access_log import Access

logger = logging.getLogger("ray.serve")


def event(data: Mapping[str, Any], name: str | None = None) -> bytes:
    """One event that holds JSON; a number that JSON doesn't have is null."""
    start = b"" if name is None else b"event: " + name.encode() + b"\n"
    return start + b"data: " + to_json(data, inf_nan_mode="null") + b"\n\n"


class EventStream(StreamingResponse):
    """The response for a streamed answer. However it ends, the model is stopped."""

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[bytes, None],
        answer: Answer,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(events, headers=headers)
        self._events = events
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        try:
            # Ray Serve cancels this when the client disconnects: no task has to listen for it.
            await self.stream_response(send)
        finally:
            await self._events.aclose()
            await self._answer.aclose()


def broken_off(failure: Exception, answer: Answer, access: Access) -> LLMError:
    """What the caller is told of a failure in mid-stream. The status has been sent, so only an
    event can still report it.

    Args:
        failure: what ended the stream; unless it is an LLMError, the log has it.
        answer: the answer that was streamed.
        access: records the error.
    """
    error = failure if isinstance(failure, LLMError) else None
    if error is None:
        logger.error("the stream of model '%s' failed", answer.model, exc_info=failure)
        error = LLMError("internal error; see the server's log")
    access.error = error.code
    return error
