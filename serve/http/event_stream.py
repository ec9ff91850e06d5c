"""Server-sent events: one event, and the response for a streamed answer.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pydantic_core import to_json
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serve.core import Answer


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
