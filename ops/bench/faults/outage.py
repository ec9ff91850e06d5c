"""An outage under steady traffic: row 15 of the table."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from ops.bench.caller import Reply, ask
from ops.bench.fault_server import Attempt, FaultServer
from ops.bench.faults.application import Times
from ops.bench.faults.playing import MESSAGES, settle
from ops.bench.faults.promises import Checks

_FAILURES_TO_OPEN = 5  # in a row
_REQUESTS_PER_S = 10
_BAD_REQUESTS = 4 * _FAILURES_TO_OPEN


@dataclass(frozen=True)
class Outage:
    """What was seen of a model that was down under steady traffic.

    Attributes:
        replies: each with the time of its request, in seconds from the first one.
        attempts: the attempts at the model that was down.
        bad: the replies to bad requests, sent after the outage.
        after: the reply to a good request, sent after those.
        times: the configured durations.
        kind: the kind of backend.
    """

    replies: Sequence[tuple[float, Reply]]
    attempts: Sequence[Attempt]
    bad: Sequence[Reply]
    after: Reply
    times: Times
    kind: str

    @property
    def recovery(self) -> float | None:
        """Seconds from the end of the outage to the first request that the model answered."""
        answered = [at for at, reply in self.replies if reply.model == f"first-{self.kind}"]
        return min(answered) - self.times.down if answered else None

    @property
    def failures(self) -> list[float]:
        """Seconds from the first attempt to each failed one."""
        return [one.since for one in self.attempts if one.outcome == "503"]

    def checks(self) -> Checks:
        """What is promised of an outage."""
        down = [reply for at, reply in self.replies if at + reply.seconds < self.times.down]
        yield "every request answered", all(reply.is_answer for _, reply in self.replies)
        yield "by the fallback while down", {reply.model for reply in down} == {"small"}
        probes = self.times.down / self.times.circuit + 1
        # Some were in flight when the fifth failed.
        yield "the provider spared", len(self.failures) <= 2 * _FAILURES_TO_OPEN + probes
        yield (
            "the model used again soon",
            self.recovery is not None and self.recovery <= 3 * self.times.circuit,
        )
        yield "bad requests refused", {reply.status for reply in self.bad} == {400}
        yield "and no circuit opened by them", self.after.model == f"first-{self.kind}"


async def outage(
    kind: str, client: httpx.AsyncClient, provider: FaultServer, times: Times
) -> Outage:
    """Sends steady traffic while the model is down and until it answers again."""
    await settle(kind, client, provider)
    provider.plays["first"] = f"down={times.down}"
    provider.attempts.clear()
    body = {"model": f"first-{kind}", "messages": MESSAGES}
    began = time.monotonic()
    requests: list[asyncio.Task[tuple[float, Reply]]] = []
    limit = times.down + 4 * times.circuit
    while (at := time.monotonic() - began) < limit and not _has_recovered(requests, body["model"]):
        requests.append(asyncio.create_task(_ask_at(at, client, body)))
        await asyncio.sleep(1 / _REQUESTS_PER_S)
    replies = await asyncio.gather(*requests)
    attempts = [attempt for attempt in provider.attempts if attempt.model == "first"]
    provider.plays["first"] = "filtered"
    bad = [await ask(client, body) for _ in range(_BAD_REQUESTS)]
    provider.plays["first"] = "healthy"
    return Outage(replies, attempts, bad, await ask(client, body), times, kind)


async def _ask_at(
    at: float, client: httpx.AsyncClient, body: Mapping[str, Any]
) -> tuple[float, Reply]:
    return at, await ask(client, body)


def _has_recovered(requests: Sequence["asyncio.Task[tuple[float, Reply]]"], model: object) -> bool:
    return any(task.done() and task.result()[1].model == model for task in requests)
