"""Rounds, in each of which every contestant gets the same load in its turn, alone."""

import asyncio
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ops.bench.overhead.cases import Case
from ops.bench.overhead.load import Measured, closed
from ops.bench.overhead.servers import Field, Server
from ops.bench.processes import Tree, Used, spent

UPSTREAM, CALLERS = "upstream", "callers"
_SETTLE_S = 1.5  # after a pause, for work that piled up
_WARM_UP_S, _WARM_UP_CONNECTIONS = 1.0, 32

# Rounds by case, then by contestant.
Played = Mapping[str, Mapping[str, Sequence["Round"]]]


@dataclass(frozen=True)
class Round:
    """What callers saw in one round, and the cores that each part used meanwhile."""

    measured: Measured
    cores: Mapping[str, float]


async def play(field: Field, cases: Mapping[str, Case], number: int, seconds: float) -> Played:
    """Plays `number` rounds of loads of `seconds` each.

    Contestants take turns at every case, in a new order each time, so that what changes about the
    machine changes for all.
    """
    played: dict[str, dict[str, list[Round]]] = {
        title: {name: [] for name, server in field.servers.items() if server.target(case.model)}
        for title, case in cases.items()
    }
    order = random.Random(0)
    await _warm_up(field, cases)
    for index in range(number):
        for title, case in cases.items():
            for name in order.sample(list(played[title]), len(played[title])):
                played[title][name].append(await _turn(field, name, case, seconds))
        print(f"round {index + 1} of {number}", flush=True)
    return played


async def _turn(field: Field, name: str, case: Case, seconds: float) -> Round:
    server = field.servers[name]
    target = server.target(case.model)
    assert target is not None
    server.resume()
    await asyncio.sleep(_SETTLE_S)
    before, began = _look(field, server), time.perf_counter()
    measured = await case.load(target, seconds)
    wall = time.perf_counter() - began
    parts = spent(before, _look(field, server))
    server.pause()
    return Round(measured, {part: used / wall for part, used in parts.items()})


async def _warm_up(field: Field, cases: Mapping[str, Case]) -> None:
    for server in field.servers.values():
        server.resume()
        for case in cases.values():
            if (target := server.target(case.model)) is not None:
                connections = case.connections or _WARM_UP_CONNECTIONS
                await closed(target, case.ask, connections, _WARM_UP_S, lead_s=0)
        server.pause()


def _look(field: Field, server: Server) -> Used:
    """The CPU time of everything that takes part: the contestant, the upstream, the callers."""
    looks = dict(server.tree.cpu()) if server.tree is not None else {}
    for name, tree in ((UPSTREAM, field.upstream), (CALLERS, Tree(os.getpid()))):
        looks[tree.pid] = (name, tree.own_cpu())
    return looks
