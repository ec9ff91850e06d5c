"""Fake providers: an HTTP server, and all that one in OpenAI's format can do wrong."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from listening import listening
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from deployments.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
)

SECRET = "sk-never-to-be-quoted"  # the key that the tests configure

Answer = Callable[[Request, Any], Response]


class Fake:
    """An HTTP server on a free port of the loopback; `requests` holds the bodies received."""

    def __init__(self, answer: Answer) -> None:
        self.requests: list[Any] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.connections: set[Any] = set()
        self.url = ""
        self._answer = answer
        methods = ["GET", "POST"]
        self.app = Starlette(routes=[Route("/{path:path}", self._receive, methods=methods)])

    async def _receive(self, request: Request) -> Response:
        body = json.loads(await request.body() or "null")
        self.requests.append(body)
        self.paths.append(request.url.path)
        self.headers.append(dict(request.headers))
        self.connections.add(request.client)
        return self._answer(request, body)


@contextmanager
def serving(answer: Answer) -> Iterator[Fake]:
    """Serves in a thread until the block ends."""
    fake = Fake(answer)
    with listening(fake.app) as fake.url:
        yield fake


def failing(status: int, headers: dict[str, str] | None = None, /, **error: str) -> Answer:
    """Answers every request with an error."""
    return lambda request, body: JSONResponse({"error": error}, status, headers)


def refusing(**error: str) -> Answer:
    """Answers every request as OpenAI answers a bad one."""
    return failing(400, type="invalid_request_error", **error)


def chunk(**choice: Any) -> str:
    """One event of a stream; `choice` holds `delta` and `finish_reason`."""
    data = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choices = [{"index": 0, "delta": {}, "finish_reason": None, **choice}]
    return f"data: {json.dumps({**data, 'choices': choices})}\n\n"


def usage(prompt_tokens: int = 3, completion_tokens: int = 2) -> str:
    """The event with the usage that ends a stream."""
    total = prompt_tokens + completion_tokens
    counts = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": total,
    }
    data = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**data, 'choices': [], 'usage': counts})}\n\n"


DONE = "data: [DONE]\n\n"
SOME = chunk(delta={"role": "assistant", "content": "some"})
STOP = chunk(finish_reason="stop")


class Cut(Exception):
    """Raised within a stream, so that the server drops the connection."""


def streaming(*events: str | float | type[Cut]) -> Answer:
    """Streams `events` verbatim; a number is a pause in seconds, `Cut` drops the connection."""

    async def send() -> AsyncIterator[str]:
        for event in events:
            if isinstance(event, str):
                yield event
            elif isinstance(event, float):
                await asyncio.sleep(event)
            else:
                raise event

    return lambda request, body: StreamingResponse(send(), media_type="text/event-stream")


class _Thinking(Response):
    def __init__(self, seconds: float, then: Response) -> None:
        super().__init__()
        self._seconds, self._then = seconds, then

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(self._seconds)
        await self._then(scope, receive, send)


def thinking(seconds: float, answer: Answer) -> Answer:
    """Sends nothing, not even headers, for `seconds`; then answers as `answer` does."""
    return lambda request, body: _Thinking(seconds, answer(request, body))


class _Silent(Response):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(60)


def silent(request: Request, body: Any) -> Response:
    """Accepts the request and doesn't answer while a test lasts."""
    return _Silent()


@contextmanager
def accepting_no_connection() -> Iterator[str]:
    """The URL of a port that accepts no connection: its backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            yield f"http://127.0.0.1:{port}"


PINGS: list[str | float] = [": ping\n\n", 0.2] * 50
# How a provider can fail, and the error that the caller gets.
FAULTS: dict[str, tuple[Answer, type[LLMError]]] = {
    "wrong key": (failing(401, message=f"wrong key {SECRET}"), ProviderRejected),
    "forbidden": (failing(403, message=f"not with {SECRET}"), ProviderRejected),
    "not paid": (failing(402, message="no money left"), ProviderRejected),
    "unknown model": (failing(404, message="no such model"), ProviderRejected),
    "rate limit": (failing(429, {"Retry-After": "7"}, message="later"), RateLimited),
    "too long": (
        refusing(message="long", code="context_length_exceeded"),
        ContextLengthExceeded,
    ),
    "content policy": (
        refusing(message="no", code="content_policy_violation"),
        ContentFiltered,
    ),
    "bad value": (refusing(message=f"seed too big {SECRET}"), InvalidRequest),
    "not processable": (failing(422, message="schema is wrong"), InvalidRequest),
    "failure": (failing(500, message="out of order"), ProviderError),
    "overload": (failing(503, message="busy"), ProviderError),
    "refusal within the stream": (
        streaming('data: {"error": {"message": "no", "type": "BadRequestError", "code": 400}}\n\n'),
        InvalidRequest,
    ),
    "failure within the stream": (
        streaming(SOME, 'data: {"error": {"message": "dead", "type": "x", "code": 500}}\n\n'),
        ProviderError,
    ),
    "silence": (silent, DeadlineExceeded),
    "silence within the stream": (streaming(SOME, 30.0), DeadlineExceeded),
    "comments only": (streaming(SOME, *PINGS), DeadlineExceeded),
    "dropped connection": (streaming(SOME, Cut), ProviderError),
    "no finish reason": (streaming(SOME), ProviderError),
    "unknown shape": (streaming(SOME, 'data: {"choices": 5}\n\n', STOP, usage()), ProviderError),
    "no stream": (lambda request, body: Response("<html>Welcome"), ProviderError),
}
