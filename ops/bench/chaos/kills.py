"""The kills: what is killed, and what callers saw until all was well again."""

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
from ops.bench.chaos.callers import QUESTIONS, Call, call, load
from ops.bench.chaos.cluster import (
    CONTROLLER,
    DEADLINE_S,
    SEQUENCE,
    Nodes,
    replica,
    running,
)

_START_S, _RECOVERY_S = 180.0, 60.0
_STEADY_S = 2.0  # before a kill, longer than an answer takes


@dataclass
class Part:
    """What callers saw of one kill.

    Attributes:
        killed: what was.
        took_only: whether the one replica of "only" went with it, so that its requests may fail.
        recovery: seconds until all ran again and every request went well; None: not in time.
        calls: all that were made.
    """

    killed: str
    took_only: bool = False
    recovery: float | None = None
    calls: list[Call] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, Any]:
        """Its line of the table."""
        outcomes = Counter(call.outcome for call in self.calls)
        refused = [call for call in self.calls if call.outcome == "refused"]
        # No model but the one that died may refuse a whole answer.
        unwarranted = [
            call
            for call in refused
            if not call.question.stream and not (self.took_only and call.question.model == "only")
        ]
        return {
            "sent": len(self.calls),
            "answered": outcomes["answered"],
            "refused": outcomes["refused"],
            "lost": outcomes["lost"],
            "unwarranted": len(unwarranted),
            "retried": sum(call.retries for call in self.calls),
            "again": sum(call.attempts > 1 for call in self.calls),
            "rescued": sum(call.rescues > 0 for call in self.calls),
            "longest_s": round(max(call.longest for call in self.calls), 2),
            "recovery_s": None if self.recovery is None else round(self.recovery, 1),
            "said": dict(Counter(call.said for call in self.calls if not call.is_well)),
        }


KILLS: Mapping[str, Callable[[Nodes], list[int]]] = {
    "a backend replica": lambda nodes: nodes.one(replica("quick")),
    "a model's only replica": lambda nodes: nodes.one(replica("only")),
    "a router replica": lambda nodes: nodes.one(replica("Router")),
    "the sequence": lambda nodes: nodes.one(SEQUENCE),
    "Serve's controller": lambda nodes: nodes.one(CONTROLLER),
    "a worker node": Nodes.worker,
}


async def part(url: str, nodes: Nodes, killed: str, rate: float, seconds: float) -> Part:
    """Kills under load, and waits until all is well for so many `seconds`."""
    result = Part(killed)
    async with load(url, rate) as result.calls:
        await asyncio.sleep(_STEADY_S)
        victims = await asyncio.to_thread(KILLS[killed], nodes)
        titles = nodes.processes()
        result.took_only = any(titles.get(pid, "").startswith(replica("only")) for pid in victims)
        at = time.monotonic()
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        back = await _back(nodes, victims, at + _RECOVERY_S)
        await asyncio.sleep(seconds)
    if back is not None:
        bad = [call.ended for call in result.calls if not call.is_well]
        result.recovery = max([back, *bad]) - at
    return result


async def _back(nodes: Nodes, victims: Collection[int], deadline: float) -> float | None:
    """When all ran again."""
    while (now := time.monotonic()) < deadline:
        gone = not any(map(_lives, victims))
        if gone and await asyncio.to_thread(nodes.are_well):
            return now
        await asyncio.sleep(0.1)
    return None


def _lives(pid: int) -> bool:
    try:
        # A zombie is dead, but whoever started it hasn't looked.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def measure(rate: float, seconds: float) -> list[Part]:
    """All kills, one after the other."""
    parts = []
    with fault_server.serving() as provider:
        async with _started(provider.url) as (url, nodes):
            for killed in KILLS:
                parts.append(await part(url, nodes, killed, rate, seconds))
                print(json.dumps({killed: parts[-1].figures}), file=sys.stderr, flush=True)
    return parts


@asynccontextmanager
async def _started(provider: str) -> AsyncIterator[tuple[str, Nodes]]:
    """The application once every question is answered."""
    with running(provider) as (url, nodes):
        if await _back(nodes, (), time.monotonic() + _START_S) is None:
            raise RuntimeError("the application does not start")
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S, trust_env=False) as client:
            # Several at once, so that each router and each replica has had some.
            for made in await asyncio.gather(*(call(client, each) for each in QUESTIONS * 4)):
                if made.outcome != "answered":
                    raise RuntimeError(f"{made.question} is not answered: {made.said}")
        yield url, nodes
