"""A server to drive: OpenAI's wire format, our headers, and faults by the model's name."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

TOKENS = 5
COST = 0.25
METRICS = """\
# HELP llm_replicas Replicas.
# TYPE llm_replicas gauge
llm_replicas{deployment="demo",state="wanted"} 3
llm_replicas{deployment="demo",state="running"} 2.0
llm_replicas{state="starting",deployment="demo"} 1
llm_replicas{deployment="Router",state="running"} 1
llm_requests_in_flight{deployment="demo",state="queued",replica="a"} 4
llm_requests_in_flight{deployment="demo",state="queued",replica="b"} 5
llm_requests_in_flight{deployment="demo",state="ongoing",replica="b"} 1
llm_requests_in_flight{deployment="Router",state="ongoing",replica="r"} 10
llm_router_requests_total{model="demo"} 100
llm_nodes{state="alive"} 2
"""
_START_S = 10.0


class Target:
    """What it was asked, and with which keys.

    Attributes:
        url: its base URL, without "/v1".
        bodies: of all requests.
        keys: all `authorization` headers.
    """

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/metrics", self._metrics),
            ]
        )

    async def _metrics(self, request: Request) -> Response:
        self.keys.add(request.headers.get("authorization", ""))
        return PlainTextResponse(METRICS)

    async def _chat(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        self.keys.add(request.headers.get("authorization", ""))
        name, _, seconds = body["model"].partition("=")
        if name == "refused":
            error = {"message": "too many", "type": "rate_limit_error", "code": "rate_limited"}
            return JSONResponse({"error": error}, 429)
        headers = {
            "x-router-model": "demo",
            "x-router-strategy": "smart",
            "x-router-attempts": "1",
            "x-router-reason": "mean 0.9 wanted; demo 0.97+-0.02 for $0.1, then other 0.99+-0.01",
        }
        if name == "slow":
            await asyncio.sleep(float(seconds))
        if body.get("stream"):
            events = _events(name)
            return StreamingResponse(events, headers=headers, media_type="text/event-stream")
        message = {"role": "assistant", "content": "word " * TOKENS}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        whole = {"id": "1", "model": "demo", "choices": choices, "usage": _USAGE}
        return JSONResponse(whole, headers={**headers, "x-router-cost": f"{COST}"})


_USAGE = {"prompt_tokens": 7, "completion_tokens": TOKENS, "total_tokens": 7 + TOKENS}


async def _events(name: str) -> AsyncIterator[str]:
    yield _event(choices=[_choice({"role": "assistant", "content": ""})])
    if name == "failing":
        yield _event(error={"message": "no more", "type": "server_error", "code": "out_of_memory"})
        return
    for _ in range(TOKENS):
        await asyncio.sleep(0.01)
        yield _event(choices=[_choice({"content": 'word "usage": '})])
    if name == "cut":
        return
    router = {"model": "demo", "attempts": 2, "cost": COST}
    yield _event(choices=[_choice({}, "stop")], router=router)
    yield _event(choices=[], usage=_USAGE)
    yield "data: [DONE]\n\n"


def _choice(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": reason}


def _event(**fields: Any) -> str:
    return f"data: {json.dumps(fields)}\n\n"


@contextmanager
def serving() -> Iterator[Target]:
    """Serves in a thread, on a free port, until the block ends."""
    target = Target()
    server = uvicorn.Server(uvicorn.Config(target.app, port=0, log_level="critical"))
    server.config.timeout_graceful_shutdown = 1
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_S
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.01)
        target.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        yield target
    finally:
        server.should_exit = True
        thread.join(_START_S)
