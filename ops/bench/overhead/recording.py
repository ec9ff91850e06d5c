"""The CPU time that recording one answer takes, measured alone: other load on the machine, which
hides so little in a comparison of whole requests, doesn't matter to it."""

import asyncio
import time
from collections.abc import AsyncGenerator

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, Usage
from deployments.replicas.measuring import measured
from deployments.telemetry.instruments import (
    ANSWERED,
    DECISION_TIME,
    IN_FLIGHT,
    KEY_REQUESTS,
    ONGOING,
)
from serve.routing.strategy import Question, Ranking
from serve.telemetry.answers import MeasuredAnswer
from serve.telemetry.calls import MeasuredCall

_TIMES = 5_000
_TOKENS = 16
_MODELS = ["a", "b"]
_CONFIG = ModelConfig(name="a", backend="x")
_REQUEST = ChatRequest(model="a", messages=[{"role": "user", "content": "Hi"}], stream=True)
_QUESTION = Question(candidates=_MODELS, available=_MODELS, requirement=0.5)
_RANKING = Ranking(
    _MODELS,
    quality={"a": 0.9, "b": 0.8},
    cost={"a": 2.0, "b": 1.0},
    output_tokens={"a": 3.0, "b": 4.0},
)
_USAGE = Usage(5, _TOKENS)
_CHUNKS = [*[Chunk(text="word")] * _TOKENS, Chunk(finish_reason="stop", usage=_USAGE)]


def per_answer() -> tuple[float, float]:
    """Seconds in the router, of a streamed answer that smart routing chose; and in the model's
    replica, of 16 tokens."""
    _in_router()  # the first makes what later ones find
    began = time.process_time()
    for _ in range(_TIMES):
        _in_router()
    router = (time.process_time() - began) / _TIMES
    with_it, without = asyncio.run(_in_replica(metered=True)), asyncio.run(_in_replica())
    return router, with_it - without


def _in_router() -> None:
    in_progress = IN_FLIGHT.labels("Router", ONGOING)
    in_progress.inc()
    KEY_REQUESTS.labels("key").inc()
    with DECISION_TIME.labels("smart").time():
        pass
    call = MeasuredCall("a", _CONFIG, "a", stream=True)
    call.accepted()
    call.begun()
    call.usage = _USAGE
    call.end(ANSWERED)
    answer = MeasuredAnswer("key", _QUESTION, _RANKING, "smart")
    answer.begun("a")
    answer.end("a", _USAGE, 0.1, rescued=False)
    in_progress.dec()


async def _in_replica(*, metered: bool = False) -> float:
    began = time.process_time()
    for _ in range(_TIMES):
        async for _chunk in measured(_chunks(), _REQUEST, "x") if metered else _chunks():
            pass
    return (time.process_time() - began) / _TIMES


async def _chunks() -> AsyncGenerator[Chunk, None]:
    for chunk in _CHUNKS:
        yield chunk
