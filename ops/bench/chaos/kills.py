"""The kills: what is killed, and what callers see until the cluster has recovered."""

import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from ops.bench import fault_server
from ops.bench.chaos.callers import LATE_S, QUESTIONS, Call, call, load
from ops.bench.chaos.cluster import (
    CONTROLLER,
    DEADLINE_S,
    SEQUENCE,
    STORE,
    Nodes,
    replica,
    running,
)

# On two busy cores it takes a minute until all that a lost node ran has started elsewhere.
_START_S, _RECOVERY_S = 180.0, 120.0
_COPIED_S = 60.0  # until what was learned last has reached all nodes: seconds on an idle machine
_STEADY_S = 2.0  # of load before a kill; longer than an answer takes
_MOVES = 10  # of a router, until there is one on each worker


@dataclass
class Part:
    """What callers saw of one kill.

    Attributes:
        killed: a key of `KILLS`.
        unserved: the models whose every replica was killed.
        killed_at, healthy_at: when it was killed, and when everything ran again, by
            `time.monotonic`; None if that was not in time.
        calls: all requests that were sent.
        copies: on how many nodes the routers had the latest copy of the store soon after the load;
            0 if not on all.
    """

    killed: str
    unserved: Collection[str] = ()
    killed_at: float = 0.0
    healthy_at: float | None = None
    calls: list[Call] = field(default_factory=list)
    copies: int = 0

    @property
    def recovery(self) -> float | None:
        """Seconds until everything ran and no caller noticed anything; None if not in time."""
        if self.healthy_at is None:
            return None
        bad = [call.ended for call in self.calls if not call.is_unaffected]
        return max([self.healthy_at, *bad]) - self.killed_at

    def _warrants(self, refused: Call) -> bool:
        """Whether no replica was left for the request, or its stream may have begun."""
        after = refused.ended >= self.killed_at
        before = self.healthy_at is None or refused.began <= self.healthy_at + LATE_S
        question = refused.question
        return after and before and (question.stream or question.allowed <= set(self.unserved))

    @property
    def figures(self) -> dict[str, Any]:
        """Its row of the table."""
        outcomes = Counter(call.outcome for call in self.calls)
        refused = [call for call in self.calls if call.outcome == "refused"]
        return {
            "sent": len(self.calls),
            "answered": outcomes["answered"],
            "refused": outcomes["refused"],
            "lost": outcomes["lost"],
            "unwarranted": sum(not self._warrants(call) for call in refused),
            "unserved": sorted(self.unserved),
            "retried": sum(call.retries for call in self.calls),
            "again": sum(call.attempts > 1 for call in self.calls),
            "rescued": sum(call.rescues > 0 for call in self.calls),
            "longest_s": round(max(call.longest for call in self.calls), 2),
            "recovery_s": None if self.recovery is None else round(self.recovery, 1),
            "copies": self.copies,
            "said": dict(Counter(call.said for call in self.calls if not call.is_unaffected)),
        }


KILLS: Mapping[str, Callable[[Nodes], list[int]]] = {
    "a backend replica": lambda nodes: nodes.first(replica("quick")),
    "a model's only replica": lambda nodes: nodes.first(replica("only")),
    "a router replica": lambda nodes: nodes.first(replica("Router")),
    "the sequence": lambda nodes: nodes.first(SEQUENCE),
    "the store": lambda nodes: nodes.first(STORE),
    "Serve's controller": lambda nodes: nodes.first(CONTROLLER),
    "a worker node": Nodes.worker_processes,
}


async def part(url: str, nodes: Nodes, killed: str, rate: float, seconds: float) -> Part:
    """Kills under load, waits for the recovery, and keeps up the load for `seconds` more."""
    result = Part(killed)
    async with load(url, rate) as result.calls:
        await asyncio.sleep(_STEADY_S)
        victims = await asyncio.to_thread(KILLS[killed], nodes)
        result.unserved = await asyncio.to_thread(nodes.served_only_by, victims)
        result.killed_at = time.monotonic()
        _kill(victims)
        deadline = result.killed_at + _RECOVERY_S
        result.healthy_at = await _recovered(nodes, victims, deadline)
        await asyncio.sleep(seconds)
    result.copies = await _copied(nodes)
    return result


async def _copied(nodes: Nodes) -> int:
    """On how many nodes the routers have the same copy; 0 if not on all in time."""
    deadline = time.monotonic() + _COPIED_S
    while time.monotonic() < deadline:
        copies = await asyncio.to_thread(nodes.copies)
        if None not in copies and len(set(copies)) == 1:
            return len(copies)
        await asyncio.sleep(0.2)
    return 0


async def _recovered(nodes: Nodes, victims: Collection[int], deadline: float) -> float | None:
    """The time when everything ran again; None if that is after the deadline."""
    while (now := time.monotonic()) < deadline:
        all_dead = not any(map(_is_alive, victims))
        if all_dead and await asyncio.to_thread(nodes.are_healthy):
            return now
        await asyncio.sleep(0.1)
    return None


async def _spread(nodes: Nodes) -> None:
    """Sees to a router on each worker. Ray only tends to spread replicas."""
    for _ in range(_MOVES):
        if len(await asyncio.to_thread(nodes.copies)) == len(nodes.workers):
            return
        victims = await asyncio.to_thread(KILLS["a router replica"], nodes)
        _kill(victims)
        await _recovered(nodes, victims, time.monotonic() + _RECOVERY_S)
    raise RuntimeError(f"after {_MOVES} restarts all routers are on one worker still")


def _kill(processes: Collection[int]) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        # A zombie is dead, but its parent hasn't collected its status.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def measure(rate: float, seconds: float) -> list[Part]:
    """Performs all kills, one after the other."""
    parts = []
    with fault_server.serving() as provider:
        async with _started(provider.url) as (url, nodes):
            for killed in KILLS:
                parts.append(await part(url, nodes, killed, rate, seconds))
                print(json.dumps({killed: parts[-1].figures}), file=sys.stderr, flush=True)
    return parts


@asynccontextmanager
async def _started(provider: str) -> AsyncIterator[tuple[str, Nodes]]:
    """Starts the application; yields once every question has been answered."""
    with running(provider) as (url, nodes):
        if await _recovered(nodes, (), time.monotonic() + _START_S) is None:
            raise RuntimeError("the application did not start")
        await _spread(nodes)
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S, trust_env=False) as client:
            # Several at once, so that every router and replica gets some.
            for result in await asyncio.gather(*(call(client, each) for each in QUESTIONS * 4)):
                if result.outcome != "answered":
                    raise RuntimeError(f"{result.question} was not answered: {result.said}")
        yield url, nodes
