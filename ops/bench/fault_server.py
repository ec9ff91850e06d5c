"""A provider in OpenAI's wire format that breaks on purpose: how, says the request's `model`.

    python -m ops.bench.fault_server [--port N]

`model` is one of `FAULTS`, for some with a number behind it: "cut=40" breaks off after 40 tokens.
Each attempt is logged with its time, its body and its outcome; by this command, as a line of JSON.

Answers are streamed, as the router's backends want them. What is written depends on nothing but the
request, so that who reads it can tell whether anything is missing, doubled or of someone else.
"""

import argparse
import asyncio
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

TOKENS = 60
_START_S = 10.0


def text(word: str = "word") -> str:
    """What a model writes that is asked for text: so many different words, a token each."""
    return " ".join(f"{word}{number}" for number in range(1, TOKENS + 1))


TEXT = text()
OTHER_TEXT = text("other")


@dataclass
class Attempt:
    """One request that came in.

    Attributes:
        model: that it asks for.
        body: all of it.
        number: of the attempts at this model, from 1.
        since: seconds since the first of them.
        at: when it came, by `time.monotonic`.
        outcome: the status; "cut" or "reset"; or "left" where the client was the one to go. Empty
            while it goes on.
        ended: when it was over, by `time.monotonic`.
    """

    model: str
    body: dict[str, Any]
    number: int
    since: float
    at: float
    outcome: str = ""
    ended: float | None = None

    def end(self, outcome: str) -> None:
        """It is over; only the first call counts."""
        if self.ended is None:
            self.outcome, self.ended = outcome, time.monotonic()


# --- what a model does: steps ---


@dataclass(frozen=True)
class Refusal:
    """An error instead of an answer."""

    status: int
    error: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Break(Enum):
    """How a connection ends before its answer does."""

    CUT = "cut"  # closed: no final chunk
    RESET = "reset"


# An event of the stream, a pause in seconds, or an end.
Step = str | float | Refusal | Break
# From an attempt, and the number behind the fault's name, to what happens.
Fault = Callable[[Attempt, float], Sequence[Step]]

HEADERS = ""  # the response begins; nothing is said yet


def _answer(attempt: Attempt, said: str = TEXT) -> list[Step]:
    """A whole answer: an event for each token, then how it ended, the usage and `[DONE]`."""
    body = attempt.body
    if refusal := _refused_prefill(body):
        return [refusal]
    if body.get("tools"):
        deltas, reason = _call(body["tools"][0]["function"]["name"], said), "tool_calls"
    else:
        deltas, reason = [{"content": piece} for piece in _pieces(_left(body, said))], "stop"
    prompt = sum(len(str(message.get("content")).split()) for message in body["messages"])
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": len(deltas),
        "total_tokens": prompt + len(deltas),
    }
    return [
        *(_event(body, choices=[_choice(delta=delta)]) for delta in deltas),
        _event(body, choices=[_choice(finish_reason=reason)]),
        _event(body, choices=[], usage=usage),
        "data: [DONE]\n\n",
    ]


def _refused_prefill(body: Mapping[str, Any]) -> Refusal | None:
    """As vLLM does, which wants both said."""
    if body.get("continue_final_message") and body.get("add_generation_prompt", True):
        return _bad("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    return None


def _left(body: Mapping[str, Any], said: str) -> str:
    """What is still to be written of the text that is asked for."""
    if body.get("response_format", {}).get("type", "text") != "text":
        said = json.dumps({"words": said.split()})
    if body.get("continue_final_message"):
        return said.removeprefix(body["messages"][-1]["content"])
    return said


def _pieces(said: str) -> list[str]:
    """A token is a word with the space before it."""
    return re.findall(" ?[^ ]+", said)


def _call(name: str, said: str) -> list[dict[str, Any]]:
    first, *rest = _pieces(json.dumps({"words": said.split()}))
    function = {"name": name, "arguments": first}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    more = [{"index": 0, "function": {"arguments": piece}} for piece in rest]
    return [{"tool_calls": [piece]} for piece in (call, *more)]


def _choice(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "delta": {}, "finish_reason": None, **fields}


def _event(body: Mapping[str, Any], **fields: Any) -> str:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    return f"data: {json.dumps({**head, **fields})}\n\n"


def _bad(message: str, **more: str) -> Refusal:
    return Refusal(400, {"message": message, "type": "invalid_request_error", **more})


_FAILURE = Refusal(500, {"message": "out of order", "type": "server_error"})
_UNAVAILABLE = Refusal(503, {"message": "no capacity", "type": "server_error"})
_TOO_LONG = _bad("The prompt is too long.", code="context_length_exceeded", param="messages")
_FILTERED = _bad("The prompt is against the house rules.", code="content_filter")
_NO_JSON = 'data: {"choices": [{"index": 0, "delta": {"content": "garb\n\n'


def _healthy(attempt: Attempt, number: float) -> Sequence[Step]:
    return _answer(attempt)


def _always(*steps: Step) -> Fault:
    return lambda attempt, number: steps


def _once(fault: Fault) -> Fault:
    """The first attempt breaks; those after it are answered."""
    return lambda attempt, number: (fault if attempt.number == 1 else _healthy)(attempt, number)


def _after_tokens(*steps: Step) -> Fault:
    """So many tokens come, then `steps`, then what would have come without them."""

    def play(attempt: Attempt, tokens: float) -> Sequence[Step]:
        events = _answer(attempt)
        return [*events[: int(tokens)], *steps, *events[int(tokens) :]]

    return play


def _limited(attempt: Attempt, retry_after: float) -> Sequence[Step]:
    headers = {"retry-after": f"{retry_after:g}"} if retry_after else {}
    return [Refusal(429, {"message": "too many requests", "type": "rate_limit_error"}, headers)]


def _down(attempt: Attempt, seconds: float) -> Sequence[Step]:
    return [_UNAVAILABLE] if attempt.since < seconds else _answer(attempt)


def _late(attempt: Attempt, seconds: float) -> Sequence[Step]:
    return [HEADERS, seconds, *_answer(attempt)]


def _paced(attempt: Attempt, seconds: float) -> Sequence[Step]:
    return [step for event in _answer(attempt) for step in (event, seconds)]


def _unfinished(attempt: Attempt, number: float) -> Sequence[Step]:
    return _answer(attempt)[:-1]


def _other(attempt: Attempt, number: float) -> Sequence[Step]:
    return _answer(attempt, OTHER_TEXT)


def _no_prefill(attempt: Attempt, number: float) -> Sequence[Step]:
    if attempt.body["messages"][-1]["role"] == "assistant":
        return [_bad("The last message must not have the role 'assistant'.", param="messages")]
    return _other(attempt, number)


# By the name that requests ask for. Behind "=" stands a number: seconds, or tokens.
FAULTS: Mapping[str, Fault] = {
    "healthy": _healthy,
    "other": _other,  # writes something else
    "rate-limited-once": _once(_limited),  # with a number, `Retry-After` says it
    "rate-limited": _limited,
    "failing-once": _once(_always(_FAILURE)),
    "unavailable": _always(_UNAVAILABLE),
    "down": _down,  # for so many seconds
    "reset-once": _once(_always(Break.RESET)),
    "silent": _always(inf),
    "late": _late,  # the first token comes after so many seconds
    "paced": _paced,  # so many seconds between tokens
    "cut": _after_tokens(Break.CUT),
    "cut-once": _once(_after_tokens(Break.CUT)),
    "stalled": _after_tokens(inf),
    "malformed": _after_tokens(_NO_JSON),
    "no-done": _unfinished,
    "too-long": _always(_TOO_LONG),
    "filtered": _always(_FILTERED),
    "no-prefill": _no_prefill,  # and writes something else
    "refusing": _always(_bad("Not like this.")),
}


# --- the server ---


class _Protocol(H11Protocol):
    """Gives each request its connection, which ASGI keeps from applications."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class _Play(Response):
    """Does one step after the other, until they or the client are gone."""

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
            leaving = tasks.create_task(_gone(receive))
            await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            self._attempt.end("left")
            playing.cancel()
            leaving.cancel()
        self._log(self._attempt)

    async def _play(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        for step in self._steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, str):
                if not begun:
                    headers = [(b"content-type", b"text/event-stream")]
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                begun = True
                await send(_body(step, more=True))
            elif isinstance(step, Refusal):
                self._attempt.end(str(step.status))
                await _refused(step)(scope, receive, send)
                return
            else:
                self._attempt.end(step.value)
                _break(scope["state"]["transport"], step)
                return
        # Before the client can know it.
        self._attempt.end("200")
        await send(_body("", more=False))


def _refused(refusal: Refusal) -> Response:
    error = {"param": None, "code": None, **refusal.error}
    return JSONResponse({"error": error}, refusal.status, dict(refusal.headers))


def _body(said: str, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": said.encode(), "more_body": more}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _break(transport: asyncio.Transport, how: Break) -> None:
    if how is Break.RESET:
        # Closing a socket that doesn't linger is a reset: socket(7).
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.close()  # once what was written is out


class FaultServer:
    """The provider.

    Attributes:
        url: where it is, without "/v1".
        attempts: that came in, oldest first. Cleared, every model begins anew.
        plays: the fault that a model's name stands for, where it is none itself.
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


def _server(provider: FaultServer, port: int) -> uvicorn.Server:
    config = uvicorn.Config(
        provider.app, "127.0.0.1", port, http=_Protocol, log_level="critical", lifespan="off"
    )
    config.timeout_graceful_shutdown = 1
    return uvicorn.Server(config)


@contextmanager
def serving() -> Iterator[FaultServer]:
    """Serves in a thread, on a free port, until the block ends."""
    provider = FaultServer()
    server = _server(provider, 0)
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


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8099)
    _server(FaultServer(log=_show), parser.parse_args().port).run()


def _show(attempt: Attempt) -> None:
    assert attempt.ended is not None  # only then is it shown
    shown = {
        "model": attempt.model,
        "number": attempt.number,
        "at": round(attempt.since, 3),
        "took": round(attempt.ended - attempt.at, 3),
        "outcome": attempt.outcome,
        "body": attempt.body,
    }
    print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    main()
