"""What every request passes before an endpoint: authentication, and limits on load.

A plain ASGI middleware, so that streams pass through untouched.
"""

import base64
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import chain

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import (
    ForbiddenOrigin,
    HeadersTooLarge,
    InvalidRequest,
    LLMError,
    Overloaded,
    Unauthenticated,
)
from deployments.telemetry.instruments import IN_FLIGHT, KEY_REQUESTS, ONGOING
from serve.access.keys import Caller, Keys
from serve.config import ServerConfig
from serve.http import docs
from serve.http.console import paths as console
from serve.http.failures import error_response
from serve.http.middleware.head import HeadAsGet
from serve.http.scopes import path_of
from serve.http.server import ROUTER

# Paths that need no key and have no limits. (The pages /docs and / need no key either: they ask
# their users for one.)
HEALTH = frozenset({"/health", "/health/live", "/health/ready"})
METRICS = "/metrics"
# Paths that have no limits either: they are read again and again, and when the server is at them.
UNLIMITED = frozenset({METRICS, *console.POLLED})

_MOST_HEADERS, _MOST_HEADER_BYTES = 100, 2**15
# The prefix of our own response headers, which are removed from requests.
_OURS = b"x-router-"
# Tells Ray's proxy to ignore disconnects: a client that has left would keep its slots.
_IGNORE_DISCONNECT = b"x-request-disconnect-disabled"
# The names of this machine, as used by programs on it.
_LOOPBACK = re.compile(r"(https?://)?(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?", re.IGNORECASE)
# The response headers that permitted web pages may read.
_READABLE = (
    *("x-request-id", "request-id", "x-router-id", "x-router-model", "x-router-strategy"),
    *("x-router-attempts", "x-router-reason", "x-router-cost", "retry-after"),
)


class Gate:
    """Admits a request, with its `Caller` in `request.state.caller`, or responds with an error.

    Args:
        app: the application behind it.
        config: the server's.
        keys: the known keys.
        count: counts a caller's request; raises LLMError if it is over the caller's quota.
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
        self._local_only = not (keys.required or config.allow_anonymous)
        self._origins = config.cors_origins
        self._most = config.max_concurrent_requests
        self._working = 0
        self._in_progress = IN_FLIGHT.labels(ROUTER, ONGOING)
        self._most_bytes = max(config.max_total_body_bytes, config.max_body_bytes)
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            try:
                await self._admit(scope, receive, send)
            except LLMError as error:
                # The gate's own error: the application handles those that it raises.
                await error_response(error, scope)(scope, receive, send)
            except ClientDisconnect:
                pass  # in the middle of its body: nobody is left to respond to, and nothing failed
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _checked(scope["headers"])
        caller = self._keys.caller(_key(headers))
        kept = [header for header in scope["headers"] if not header[0].startswith(_OURS)]
        state = {**scope.get("state", {}), "caller": caller}
        scope = {**scope, "headers": kept, "state": state}
        if self._local_only:
            self._check_names(_text(headers.get(b"host")), _text(headers.get(b"origin")))
        path = path_of(scope)
        if path in HEALTH:
            await self._app(scope, receive, send)
            return
        if (access := state.get("access")) is not None and caller is not None:
            access.key = caller.name
        if caller is None and path not in docs.PATHS and not console.is_page(path):
            raise Unauthenticated(
                "an API key is required: send `Authorization: Bearer KEY` or `x-api-key: KEY` with "
                "a known key"
            )
        if path in UNLIMITED:
            await self._app(scope, receive, send)
            return
        if self._working >= self._most:
            raise Overloaded("the server is at its limit of concurrent requests", retry_after=1)
        body = _Body(receive, self._take)
        self._working += 1
        self._in_progress.inc()
        try:
            if caller is not None:
                if caller.name is not None:
                    KEY_REQUESTS.labels(caller.name).inc()
                await self._count(caller)
            await self._app(scope, body.receive, send)
        finally:
            self._working -= 1
            self._in_progress.dec()
            self._bytes -= body.size

    def _check_names(self, host: str | None, origin: str | None) -> None:
        """Rejects requests of other hosts' web pages to a server that only this machine may call:
        they come from a browser on it."""
        named = {"*", origin} & set(self._origins)
        local = origin is None or named or _LOOPBACK.fullmatch(origin)
        if not (local and _LOOPBACK.fullmatch(host or "")):
            raise ForbiddenOrigin(
                "this server requires no key, so it only accepts requests to localhost, and none "
                "from other hosts' web pages; set `server.keys` or `server.allow_anonymous` in its "
                "configuration"
            )

    def _take(self, size: int) -> None:
        """Counts bytes of bodies in progress."""
        if size and self._bytes + size > self._most_bytes:
            raise Overloaded(
                "the bodies of all requests in progress would exceed the server's limit of "
                f"{self._most_bytes} bytes",
                retry_after=1,
            )
        self._bytes += size


class _Body:
    """A request's body, whose bytes count until the response has been sent: until then the body, or
    what was parsed from it, stays in memory.

    Attributes:
        size: bytes received so far.
    """

    def __init__(self, receive: Receive, take: Callable[[int], None]) -> None:
        self._receive = receive
        self._take = take
        self.size = 0

    async def receive(self) -> Message:
        message = await self._receive()
        size = len(message.get("body", b""))
        self._take(size)
        self.size += size
        return message


def guard(
    app: FastAPI, config: ServerConfig, keys: Keys, count: Callable[[Caller], Awaitable[None]]
) -> FastAPI:
    """`app` behind its gate, and in front of that the responses to browsers' preflight requests, if
    `cors_origins` are configured."""
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
    """A request's caller; None, on paths that need no key, if it has no known one."""
    caller: Caller | None = request.state.caller
    return caller


def authenticated(request: HTTPConnection) -> Caller:
    """The caller of a request to an endpoint that needs a key, where the server has any."""
    caller = caller_of(request)
    assert caller is not None, "the gate admits no others"
    return caller


def _checked(raw: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers, within the limits; the first one where several have the same name."""
    size = sum(map(len, chain.from_iterable(raw)))
    if len(raw) > _MOST_HEADERS or size > _MOST_HEADER_BYTES:
        raise HeadersTooLarge(
            f"a request may have at most {_MOST_HEADERS} headers, "
            f"with {_MOST_HEADER_BYTES} bytes in total"
        )
    headers = dict(reversed(raw))
    if _IGNORE_DISCONNECT in headers:
        name = _IGNORE_DISCONNECT.decode()
        raise InvalidRequest(f"the header '{name}' is not supported; leave it out", param=name)
    return headers


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _key(headers: Mapping[bytes, bytes]) -> str | None:
    """The key that a request presents: in `x-api-key`, as Anthropic's clients send it, as a bearer
    token, or as the password of a URL (`http://:KEY@host`), where a client can send no header."""
    if b"authorization" not in headers:
        return _text(headers.get(b"x-api-key"))
    scheme, _, token = headers[b"authorization"].decode("latin-1").partition(" ")
    match scheme.lower():
        case "bearer":
            return token.strip()
        case "basic":
            try:
                pair = base64.b64decode(token.strip(), validate=True)
            except ValueError:
                return None
            return _text(pair.partition(b":")[2])
        case _:
            return None
