"""All figures for one number of past queries."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import ray

from deployments.store.evidence import Floats32
from ops.bench.store.actor import Store, local_ray
from ops.bench.store.learning import PACE_S, learned
from ops.bench.store.memory import Memory, disk
from ops.bench.store.publishing import publishing
from ops.bench.store.router import Decided, Router, decided_figures
from ops.bench.store.rows import Rows, prices_of, synthesise
from ops.bench.store.timing import Figures
from ops.bench.store.writing import write
from serve.routing.prices import Price

_ROUTERS = 4
_LEAST = 1_000  # decisions
_SETTLES_S = 3.0  # until the routers have exchanged with a new actor
_ROOM = 2_000_000  # queries that the store keeps beyond the rows, so that none is deleted


def measure(
    recorded: Floats32, texts: Sequence[str], n: int, models: int, *, chroma: bool, seconds: float
) -> Figures:
    """All figures for n rows.

    Args:
        recorded: embeddings of recorded queries.
        texts: of these queries.
        n: past queries.
        models: how many there are.
        chroma: whether to build Chroma, too.
        seconds: for how long decisions and learning are timed.
    """
    with local_ray() as folder:
        rows = synthesise(recorded, texts, n, models)
        rows.save(folder / "rows")
        column = _Column(folder, Rows.load(folder / "rows"), prices_of(models), seconds)
        del rows
        return column.figures(chroma=chroma)


class _Column:
    def __init__(self, folder: Path, rows: Rows, prices: dict[str, Price], seconds: float) -> None:
        self._folder, self._rows, self._prices, self._s = folder, rows, prices, seconds
        self._url = f"sqlite:///{folder}/store.db"
        remote: Any = Router
        self._routers: list[Any] = [
            remote.remote(folder / "rows", prices, self._url) for _ in range(_ROUTERS)
        ]
        self._processes = [
            psutil.Process(pid) for pid in ray.get([r.pid.remote() for r in self._routers])
        ]

    def figures(self, *, chroma: bool) -> Figures:
        """In this order, since what is learned would change what comes before."""
        figures: Figures = {"write_s": write(self._url, self._rows, list(self._prices))}
        _progress("written", figures["write_s"])
        memory = self._empty()
        figures |= self._first_start(memory)
        _progress("loaded", figures["first_ready_s"])
        figures |= self._get(self._routers[0].open.remote())
        store = self._store()
        figures |= {"restart_copy_s": store.copy_s, "restart_s": store.ready_s}
        time.sleep(_SETTLES_S)
        figures |= self._decisions(memory, store)
        began = time.monotonic()
        figures |= self._get(self._routers[-1].compare.remote(self._folder, chroma=chroma))
        for router in self._routers[2:]:
            ray.kill(router)
        _progress("compared", time.monotonic() - began)
        rows, models = self._folder / "rows", list(self._prices)
        figures |= learned(store.handle, self._routers[:2], rows, models, self._s)
        store.kill()
        for router in self._routers[:2]:
            ray.kill(router)
        return figures | publishing(rows, self._url, models)

    def _empty(self) -> Memory:
        """What an empty store takes, with the routers that have no copy yet."""
        store = Store(f"sqlite:///{self._folder}/empty.db", self._prices, _ROOM)
        memory = Memory(store.process, self._processes)
        store.kill()
        return memory

    def _first_start(self, memory: Memory) -> Figures:
        """Starts without a copy, and dies."""
        store = self._store()
        figures = {"first_copy_s": store.copy_s, "first_ready_s": store.ready_s}
        figures |= memory.figures("first_actor", store.process, [])
        figures |= disk(self._url, len(self._rows))
        store.kill()
        return figures

    def _decisions(self, memory: Memory, store: Store) -> Figures:
        """Of one router, of two at once, and memory with one, two and four of them."""
        one, two = self._routers[:2]
        alone = self._decided(one)[0]
        figures = decided_figures("decision", alone)
        paced: Decided = self._get(one.decide.remote(0, self._s, PACE_S))
        figures |= decided_figures("decision_paced", paced)
        figures |= self._get(one.lookups.remote())
        figures |= memory.figures("node_1", store.process, self._processes[:1])
        self._get(two.open.remote())
        both = self._decided(one, two)
        figures |= decided_figures(
            "decision_of_two",
            Decided(
                both[0].wall + both[1].wall,
                both[0].cpu + both[1].cpu,
                both[0].process_cpu + both[1].process_cpu,
            ),
        )
        figures["two_over_one"] = sum(d.per_cpu_s for d in both) / alone.per_cpu_s
        figures |= memory.figures("node_2", store.process, self._processes[:2])
        others = self._routers[2:]
        ray.get([router.open.remote() for router in others])
        self._decided(*others)
        return figures | memory.figures("node_4", store.process, self._processes)

    def _decided(self, *routers: Any) -> list[Decided]:
        """As fast as these routers can at once."""
        return list(ray.get([router.decide.remote(_LEAST, self._s) for router in routers]))

    def _store(self) -> Store:
        return Store(self._url, self._prices, len(self._rows) + _ROOM)

    def _get(self, ref: Any) -> Any:
        return ray.get(ref)


def _progress(what: str, seconds: float) -> None:
    print(f"  {what} in {seconds:.1f} s", file=sys.stderr, flush=True)
