"""What every request passes before any endpoint: who calls, and whether there is room.

A plain ASGI middleware: streams go through it untouched.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import (
    ForbiddenOrigin,
    HeadersTooLarge,
    InvalidRequest,
    LLMError,
    Overloaded,
    Unauthenticated,
)
from serve.access.keys import Caller, Keys
from serve.config import ServerConfig
from serve.http import docs
from serve.http.failures import error_headers, error_json
from serve.http.head import HeadAsGet

# What answers without a key, and however many requests there are. (The page /docs asks for its
# reader's key itself.)
HEALTH = frozenset({"/health", "/health/live", "/health/ready"})

_MOST_HEADERS, _MOST_HEADER_BYTES = 100, 2**15
# Headers that the router answers with: what a caller says there means nothing.
_OURS = b"x-router-"
# Ray's proxy: "don't notice when I leave". It would hold the caller's slots for nobody.
_UNNOTICED = "x-request-disconnect-disabled"
# What this machine is called by those who are on it.
_LOOPBACK = re.compile(r"(https?://)?(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)
# What a web page that may read answers may read of their headers.
_READABLE = (
    *("x-request-id", "x-router-model", "x-router-strategy", "x-router-attempts"),
    *("x-router-reason", "x-router-cost", "retry-after"),
)


class Gate:
    """Lets a request in, with its `Caller` as `request.state.caller`, or answers it with an error.

    Args:
        app: what lies behind.
        config: the server's.
        keys: those that may call.
        count: counts a caller's request; raises LLMError where it has had its share.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: ServerConfig,
        keys: Keys,
        count: Callable[[Caller], Awaitable[None]],
    ) -> None:
        self._app = app
        self._keys = keys
        self._count = count
        self._names_of_ours_alone = not (keys.asked_for or config.allow_anonymous)
        self._origins = config.cors_origins
        self._most = config.max_concurrent_requests
        self._working = 0
        self._most_bytes = max(config.max_total_body_bytes, config.max_body_bytes)
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                await self._let_in(scope, receive, send)
            except LLMError as error:
                # From here, never from the application behind, which answers its own.
                await _refusal(error)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        _check_headers(scope["headers"], headers)
        caller = self._keys.caller(headers.get("authorization"))
        kept = [header for header in scope["headers"] if not header[0].startswith(_OURS)]
        state = {**scope.get("state", {}), "caller": caller}
        scope = {**scope, "headers": kept, "state": state}
        if self._names_of_ours_alone:
            self._check_names(headers)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path in HEALTH:
            await self._app(scope, receive, send)
            return
        if caller is None and path not in docs.PATHS:
            raise Unauthenticated(
                "a key is asked for here: send `Authorization: Bearer KEY` with one that is known"
            )
        with self._slot(), self._counted(receive) as counted:
            if caller is not None:
                await self._count(caller)
            await self._app(scope, counted, send)

    def _check_names(self, headers: Headers) -> None:
        """Keeps web pages of elsewhere out of a server that this machine alone may call: their
        requests come from its own browser."""
        origin = headers.get("origin")
        named = {"*", origin} & set(self._origins)
        of_ours = origin is None or named or _LOOPBACK.fullmatch(origin)
        if not (of_ours and _LOOPBACK.fullmatch(headers.get("host", ""))):
            raise ForbiddenOrigin(
                "this server asks for no key, so it is called as localhost, and by no web page of "
                "elsewhere; the configuration needs `server.keys`, or `server.allow_anonymous`"
            )

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self._working >= self._most:
            raise Overloaded("the server has as many requests as it can take", retry_after=1)
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1

    @contextmanager
    def _counted(self, receive: Receive) -> Iterator[Receive]:
        """`receive`, whose bytes count until the request has been answered: its body, or what was
        read from it, is in memory until then."""
        mine = 0

        async def counted() -> Message:
            nonlocal mine
            message = await receive()
            size = len(message.get("body", b""))
            if size and self._bytes + size > self._most_bytes:
                raise Overloaded(
                    "the bodies of all requests in progress would have over "
                    f"{self._most_bytes} bytes together, the most that the server holds",
                    retry_after=1,
                )
            mine += size
            self._bytes += size
            return message

        try:
            yield counted
        finally:
            self._bytes -= mine


def guard(
    app: FastAPI, config: ServerConfig, keys: Keys, count: Callable[[Caller], Awaitable[None]]
) -> FastAPI:
    """`app` behind its gate, and before that the answers to browsers' preflights, if there are
    pages that may ask."""
    app.add_middleware(HeadAsGet)
    app.add_middleware(Gate, config=config, keys=keys, count=count)
    if config.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],  # OpenAI's client sends a dozen of its own
            expose_headers=_READABLE,
        )
    return app


def caller_of(request: HTTPConnection) -> Caller | None:
    """Who makes a request; None, on paths that are open without one, of one without a known key."""
    caller: Caller | None = request.state.caller
    return caller


def _check_headers(raw: Sequence[tuple[bytes, bytes]], headers: Headers) -> None:
    size = sum(len(name) + len(value) for name, value in raw)
    if len(raw) > _MOST_HEADERS or size > _MOST_HEADER_BYTES:
        raise HeadersTooLarge(
            f"a request has at most {_MOST_HEADERS} headers of {_MOST_HEADER_BYTES} bytes together"
        )
    if _UNNOTICED in headers:
        raise InvalidRequest(f"'{_UNNOTICED}' is not taken here", param=_UNNOTICED)


def _refusal(error: LLMError) -> Response:
    headers = error_headers(error)
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return Response(to_json(error_json(error)), error.status, headers, "application/json")
