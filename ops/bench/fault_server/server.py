"""The HTTP server that plays the faults, breaking connections where they say so."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ops.bench.fault_server.faults import FAULTS
from ops.bench.fault_server.steps import Attempt, Break, Refusal, Step

_START_S = 10.0


class _Protocol(H11Protocol):
    """Puts the connection's transport, which ASGI hides, into the state of its requests."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Play(Response):
    """Plays the steps in order, until they end or the client disconnects."""

    def __init__(
        self, steps: Sequence[Step], attempt: Attempt, log: Callable[[Attempt], None]
    ) -> None:
        super().__init__()
        self._steps = steps
        self._attempt = attempt
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(self._play(scope, receive, send))
            disconnecting = tasks.create_task(_disconnected(receive))
            await asyncio.wait({playing, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
            self._attempt.end("left")
            playing.cancel()
            disconnecting.cancel()
        self._log(self._attempt)

    async def _play(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        for step in self._steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, str):
                if not started:
                    headers = [(b"content-type", b"text/event-stream")]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                started = True
                await send(_body(step, more=True))
            elif isinstance(step, Refusal):
                self._attempt.end(str(step.status))
                await _refused(step)(scope, receive, send)
                return
            else:
                self._attempt.end(step.value)
                _break(scope["state"]["transport"], step)
                return
        # Recorded before the client can see the end.
        self._attempt.end("200")
        await send(_body("", more=False))


def _refused(refusal: Refusal) -> Response:
    error = {"param": None, "code": None, **refusal.error}
    return JSONResponse({"error": error}, refusal.status, dict(refusal.headers))


def _body(text: str, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _break(transport: asyncio.Transport, how: Break) -> None:
    if how is Break.RESET:
        # Closing a socket with a linger time of 0 sends a reset: socket(7).
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.close()  # after everything written has been sent


class FaultServer:
    """The provider, as an ASGI application and a log of attempts.

    Attributes:
        url: its base URL, without "/v1".
        attempts: oldest first. Clearing the list resets every model.
        plays: the fault of each model whose name isn't one itself.
    """

    def __init__(self, log: Callable[[Attempt], None] = lambda attempt: None) -> None:
        self.url = ""
        self.attempts: list[Attempt] = []
        self.plays: dict[str, str] = {}
        self._log = log
        path = "/v1/chat/completions"
        self.app = Starlette(routes=[Route(path, self._receive, methods=["POST"])])

    async def _receive(self, request: Request) -> Response:
        body = await request.json()
        model, now = body["model"], time.monotonic()
        before = [attempt for attempt in self.attempts if attempt.model == model]
        since = now - before[0].at if before else 0.0
        attempt = Attempt(model, body, len(before) + 1, since, now)
        self.attempts.append(attempt)
        return _Play(self._steps(attempt), attempt, self._log)

    def _steps(self, attempt: Attempt) -> Sequence[Step]:
        name, _, number = self.plays.get(attempt.model, attempt.model).partition("=")
        if name not in FAULTS:
            return [Refusal(404, {"message": f"no model '{name}'", "code": "model_not_found"})]
        return FAULTS[name](attempt, float(number or 0))


def uvicorn_server(provider: FaultServer, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        provider.app, "127.0.0.1", port, http=_Protocol, log_level="critical", lifespan="off"
    )
    config.timeout_graceful_shutdown = 1
    return uvicorn.Server(config)


@contextmanager
def serving() -> Iterator[FaultServer]:
    """Serves in a thread, on a free port, until the block ends."""
    provider = FaultServer()
    server = uvicorn_server(provider, 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the fault server did not start")
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        provider.url = f"http://127.0.0.1:{port}"
        yield provider
    finally:
        server.should_exit = True
        thread.join(_START_S)
