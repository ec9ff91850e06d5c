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

_FAILURES = 5  # in a row that open a circuit
_REQUESTS_PER_S = 10
_BAD = 4 * _FAILURES


@dataclass(frozen=True)
class Outage:
    """What was seen of a model that was down under steady traffic.

    Attributes:
        replies: each with the seconds from the first attempt that failed to when it was asked for.
        attempts: at the model that was down.
        bad: replies to requests that were bad, after the outage.
        after: the reply to a good one, after them.
        times: that were configured.
        kind: of the backend.
    """

    replies: Sequence[tuple[float, Reply]]
    attempts: Sequence[Attempt]
    bad: Sequence[Reply]
    after: Reply
    times: Times
    kind: str

    @property
    def back(self) -> float | None:
        """Seconds from the recovery to the first request that the model answered."""
        back = [at for at, reply in self.replies if reply.model == f"first-{self.kind}"]
        return min(back) - self.times.down if back else None

    @property
    def tries(self) -> list[float]:
        """Seconds from the first attempt to each that failed."""
        return [one.since for one in self.attempts if one.outcome == "503"]

    def checks(self) -> Checks:
        """What is promised."""
        down = [reply for at, reply in self.replies if at + reply.seconds < self.times.down]
        yield "every request answered", all(reply.is_answer for _, reply in self.replies)
        yield "by the fallback, while down", {reply.model for reply in down} == {"small"}
        probes = self.times.down / self.times.circuit + 1
        # Some were under way when the fifth failed.
        yield "the provider left alone", len(self.tries) <= 2 * _FAILURES + probes
        yield "asked again soon", self.back is not None and self.back <= 3 * self.times.circuit
        yield "bad requests refused", {reply.status for reply in self.bad} == {400}
        yield "and nothing opened by them", self.after.model == f"first-{self.kind}"


async def outage(
    kind: str, client: httpx.AsyncClient, provider: FaultServer, times: Times
) -> Outage:
    """Steady traffic while the model is down and till it answers again."""
    await settle(kind, client, provider)
    provider.plays["first"] = f"down={times.down}"
    provider.attempts.clear()
    body = {"model": f"first-{kind}", "messages": MESSAGES}
    began = time.monotonic()
    asking: list[asyncio.Task[tuple[float, Reply]]] = []
    longest = times.down + 4 * times.circuit
    while (at := time.monotonic() - began) < longest and not _is_back(asking, body["model"]):
        asking.append(asyncio.create_task(_asked_at(at, client, body)))
        await asyncio.sleep(1 / _REQUESTS_PER_S)
    replies = await asyncio.gather(*asking)
    attempts = [attempt for attempt in provider.attempts if attempt.model == "first"]
    provider.plays["first"] = "filtered"
    bad = [await ask(client, body) for _ in range(_BAD)]
    provider.plays["first"] = "healthy"
    return Outage(replies, attempts, bad, await ask(client, body), times, kind)


async def _asked_at(
    at: float, client: httpx.AsyncClient, body: Mapping[str, Any]
) -> tuple[float, Reply]:
    return at, await ask(client, body)


def _is_back(asking: Sequence["asyncio.Task[tuple[float, Reply]]"], model: object) -> bool:
    return any(task.done() and task.result()[1].model == model for task in asking)
