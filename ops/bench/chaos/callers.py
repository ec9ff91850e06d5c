"""The callers: their requests, and the outcome of each."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import httpx

from ops.bench import fault_server
from ops.bench.caller import Reply, ask
from ops.bench.chaos.cluster import DEADLINE_S, WORDS

LATE_S = 2.0  # beyond the deadline, tolerated on a busy machine


@dataclass(frozen=True)
class Question:
    """A request and its correct answer."""

    model: str
    stream: bool
    messages: Sequence[Mapping[str, str]]
    models: Sequence[str] | None = None
    answer: str = fault_server.TEXT
    strategy: str = "sequential"

    @property
    def allowed(self) -> set[str]:
        """The models that may answer."""
        return set(self.models or {self.model})

    @property
    def body(self) -> dict[str, Any]:
        """The request's body."""
        allowed = {"models": self.models} if self.models else {}
        fields = {"model": self.model, "messages": self.messages, "stream": self.stream}
        router = {"strategy": self.strategy}
        return {**fields, **allowed, "router": router, "temperature": 0}


_SAY = [{"role": "user", "content": "Say your words."}]
QUESTIONS = [
    Question(model, stream, messages, models, right, strategy)
    for model, messages, models, right, strategy in (
        ("auto", _SAY, ("quick", "only"), fault_server.TEXT, "sequential"),
        ("auto", _SAY, ("quick", "only"), fault_server.TEXT, "smart"),
        ("quick", _SAY, None, fault_server.TEXT, "sequential"),
        ("here", _SAY, None, WORDS, "sequential"),
        ("only", _SAY, None, fault_server.TEXT, "sequential"),
    )
    for stream in (True, False)
]


class Broken(Exception):
    """The connection broke or the proxy failed: the application itself sent no error."""


@dataclass
class Call:
    """One request, with its `outcome`: "answered", "refused" with an error of ours, or "lost"."""

    question: Question
    began: float
    ended: float = 0.0
    outcome: str = "lost"
    said: str = ""
    retries: int = 0
    longest: float = 0.0
    attempts: int = 0
    rescues: int = 0

    @property
    def is_unaffected(self) -> bool:
        """Whether the caller noticed nothing."""
        return self.outcome == "answered" and not self.retries


async def call(client: httpx.AsyncClient, question: Question) -> Call:
    """Sends a request, and retries once if the connection breaks."""
    result = Call(question, time.monotonic())
    for result.retries in (0, 1):
        began = time.monotonic()
        try:
            _judge(result, await _ask(client, question))
            break
        except Broken as error:
            result.said = str(error)
        except httpx.TimeoutException:
            result.said = "timed out"
            break
        finally:
            result.longest = max(result.longest, time.monotonic() - began)
    result.ended = time.monotonic()
    return result


async def _ask(client: httpx.AsyncClient, question: Question) -> Reply:
    try:
        reply = await ask(client, question.body)
    except httpx.TimeoutException:
        raise
    except (httpx.HTTPError, ValueError) as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    if reply.is_stream and not (reply.error or reply.reasons or reply.done):
        raise Broken("the stream ended without a final event")
    return reply


def _judge(result: Call, reply: Reply) -> None:
    result.attempts, result.rescues = reply.attempts, len(reply.rescued)
    if reply.is_answer and reply.text == result.question.answer:
        result.outcome = "answered"
    elif reply.is_error and (reply.is_stream or reply.status in (429, 503, 504)):
        result.outcome, result.said = "refused", f"{reply.status} {reply.code}"
    else:
        result.said = f"{reply.status} {reply.error or reply.text!r} {reply.reasons} {reply.done}"


@asynccontextmanager
async def load(url: str, rate: float) -> AsyncIterator[list[Call]]:
    """Sends `rate` requests a second (an open loop) until the block ends, then waits for all.

    Yields the list that collects the finished calls.
    """
    calls: list[Call] = []
    async with (
        httpx.AsyncClient(base_url=url, timeout=DEADLINE_S + 2 * LATE_S, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):

        async def one(question: Question) -> None:
            calls.append(await call(client, question))

        async def send() -> None:
            at = time.monotonic()
            for question in cycle(QUESTIONS):
                group.create_task(one(question))
                at += 1 / rate
                await asyncio.sleep(at - time.monotonic())

        sending = group.create_task(send())
        try:
            yield calls
        finally:
            sending.cancel()
