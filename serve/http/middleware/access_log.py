"""The access log: one line of JSON in Ray Serve's log for each request, without prompts and keys.

`ops.run` shows these lines. It receives them over a socket, wherever Ray Serve's log goes.
"""

import json
import logging
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.errors import LLMError
from deployments.telemetry.instruments import ERRORS
from serve.answer import Answer
from serve.http.middleware.gate import UNLIMITED
from serve.http.scopes import header_of, path_of

logger = logging.getLogger("ray.serve")

# The environment variable with the path of a Unix datagram socket that receives each line, too.
SOCKET = "LLM_ROUTER_ACCESS_SOCKET"

# What a caller has written is only logged if it looks like a path or a field's name.
_HARMLESS = re.compile(r"[\w./:\[\]-]{1,100}", re.ASCII)


@dataclass(slots=True)
class Asking:
    """A request to a model.

    Attributes:
        began: when it came, by `time.monotonic`.
        id: the answer's.
        stream: whether the answer is streamed.
        query: the text that stands for it, where the console may show it.
        answer: once it has begun.
        first_token_s: until the first chunk of a stream.
    """

    began: float = field(default_factory=time.monotonic)
    id: str | None = None
    stream: bool = False
    query: str | None = None
    answer: Answer | None = None
    first_token_s: float | None = None

    def begun(self, answer: Answer) -> None:
        """The answer has begun."""
        self.answer = answer
        if self.stream:
            self.first_token_s = time.monotonic() - self.began


@dataclass(slots=True)
class Access:
    """What is logged of a request once it has ended.

    Attributes:
        method, path: the request's.
        status: the response's; 0 if the client disconnected before there was one.
        seconds: until the last byte of the response.
        whole: whether all of the response was sent.
        asked: the model that the request named, or "auto".
        model: the model that answered.
        attempts: how many times a model was called.
        cost: USD, if known.
        quality: predicted for `model`, if anything was.
        wanted: the quality that was required, if one was predicted.
        error, param: OpenAI's `error.code` and `error.param`, if it failed.
        key: the name of the caller's key. Like what follows, not logged.
        asking: what was asked, of a request to a model.
    """

    method: str
    path: str
    status: int = 0
    seconds: float = 0.0
    whole: bool = False
    asked: str | None = None
    model: str | None = None
    attempts: int | None = None
    cost: float | None = None
    quality: float | None = None
    wanted: float | None = None
    error: str | None = None
    param: str | None = None
    key: str | None = None
    asking: Asking | None = None

    def note(self, error: LLMError) -> None:
        """Notes how the request failed."""
        self.error, self.param = error.code, _harmless(error.param)


_FIELDS = tuple(each.name for each in fields(Access) if each.name not in ("key", "asking"))


class AccessLog:
    """An ASGI middleware that writes the line, however a request ends. Health checks get none, and
    scrapes of metrics and the console's polls only if they are refused.

    Args:
        app: the application; it finds the request's `Access` with `access_of`.
        ended: told of every request that gets a line.
    """

    def __init__(self, app: ASGIApp, ended: Callable[[Access], None] = lambda access: None) -> None:
        self._app = app
        self._ended = ended
        self._send_line = _sender(os.environ.get(SOCKET))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http" or (path := path_of(scope)).startswith("/health"):
            await self._app(scope, receive, send)
            return
        access = Access(scope["method"], _harmless(path) or "…")
        state = {**scope.get("state", {}), "access": access}
        began = time.monotonic()
        try:
            await self._app({**scope, "state": state}, receive, _watched(send, access))
        except Exception:  # the outer middleware responds to it
            access.status, access.error = 500, "internal_error"
            raise
        finally:
            access.seconds = round(time.monotonic() - began, 4)
            if path not in UNLIMITED or access.status != 200:
                self._write(access)
                self._ended(access)

    def _write(self, access: Access) -> None:
        if access.error is not None:
            ERRORS.labels(access.error).inc()
        line = json.dumps({k: v for k in _FIELDS if (v := getattr(access, k)) is not None})
        # Marked as Ray Serve's own, so that `enable_access_log: false` turns this one off, too.
        logger.info("access %s", line, extra={"serve_access_log": True})
        self._send_line(line)


def access_of(request: HTTPConnection) -> Access:
    """What is known of a request. Where there is no access log it is discarded."""
    access: Access | None = getattr(request.state, "access", None)
    return access or Access(request.scope["method"], "")


def _watched(send: Send, access: Access) -> Send:
    """`send`, which records what the response's headers say."""

    async def watched(message: Message) -> None:
        if message["type"] == "http.response.start":
            access.status = message["status"]
            access.model = header_of(message, b"x-router-model")
            access.attempts = _number(int, header_of(message, b"x-router-attempts"))
            access.cost = _number(float, header_of(message, b"x-router-cost"))
        elif message["type"] == "http.response.body":
            access.whole = not message.get("more_body")
        await send(message)

    return watched


def _harmless(text: str | None) -> str | None:
    return text if text and _HARMLESS.fullmatch(text) else None


def _number(kind: Callable[[str], Any], text: str | None) -> Any:
    return None if text is None else kind(text)


def _sender(path: str | None) -> Callable[[str], None]:
    """Sends lines to a socket, if there is one; lines that don't fit its buffer are dropped."""
    if not path:
        return lambda line: None
    to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    to.setblocking(False)

    def send(line: str) -> None:
        with suppress(OSError):
            to.sendto(line.encode(), path)

    return send
