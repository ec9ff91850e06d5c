"""A router's decisions, in a process of its own that follows the store as a replica does."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray

from deployments.embedding.encoder import Encoder
from deployments.store.evidence import Floats32
from deployments.store.observations import Learned
from ops.bench.store.access import Access
from ops.bench.store.actor import SERVER
from ops.bench.store.chroma import Chroma
from ops.bench.store.lance import Lance
from ops.bench.store.rows import AIOS_SIMILAR, NEW, Rows
from ops.bench.store.timing import Figures, Lookup, interleaved, spread
from ops.bench.store.writing import identity
from serve.config import StoreConfig
from serve.routing.forecast.predictor import default_n_similar
from serve.routing.prices import Price
from serve.routing.strategy import Question, Ranking
from serve.smart.decisions import Decisions

_REQUIREMENT = 0.7
_SEEN = 0.99  # cosine of an embedding and what the store keeps of it
_WAIT_S = 60.0
_WARM_UP = 20


@dataclass
class Decided:
    """What some decisions took.

    Attributes:
        wall, cpu: seconds of each, in wall time and in CPU time of the deciding thread.
        process_cpu: CPU seconds of the whole process, with exchanges with the store and all that
            Ray does beside it.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    process_cpu: float = 0.0

    @property
    def per_cpu_s(self) -> float:
        """Decisions for each CPU second of the process."""
        return len(self.wall) / self.process_cpu


@ray.remote(num_cpus=0)
class Router:
    """One router process. It has no copy before `open`.

    Args:
        rows: the folder that has the new queries.
        prices: of the models.
        url: of the store's database.
    """

    def __init__(self, rows: Path, prices: dict[str, Price], url: str) -> None:
        import faiss  # noqa: F401 - so that its code is not taken for memory of the copies

        self._rows, self._prices = Rows.load(rows), prices
        self._new = np.array(self._rows.new)
        identities = {model: identity(model) for model in prices}
        self._access = Access(identities)
        copies = StoreConfig(url=url).copies
        self._decisions = Decisions(self._access, Encoder().name, copies, identities, {})

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    async def open(self) -> Figures:
        """Opens the copy that is on this node; returns the time of the first decision."""
        began = time.perf_counter()
        await self._decisions.configure(self._prices, AIOS_SIMILAR, SERVER, exploration=0.0)
        if not self._decisions.has_copy:
            raise RuntimeError("the router has no copy of the store")
        await self._decide(0)
        figures = {"router_knows_ms": 1e3 * (time.perf_counter() - began)}
        await self._has_policy()
        return figures

    async def decide(self, least: int, seconds: float, pause_s: float = 0.0) -> Decided:
        """Decides for so many new queries, and for so long, in turn with all else that the event
        loop does."""
        for number in range(_WARM_UP):
            await self._decide(number)
            await asyncio.sleep(0)
        decided = Decided()
        began, cpu_began = time.perf_counter(), time.process_time()
        while len(decided.wall) < least or time.perf_counter() - began < seconds:
            wall, cpu = time.perf_counter(), time.thread_time()
            await self._decide(len(decided.wall) % NEW)
            decided.cpu.append(time.thread_time() - cpu)
            decided.wall.append(time.perf_counter() - wall)
            await asyncio.sleep(pause_s)
        decided.process_cpu = time.process_time() - cpu_began
        return decided

    async def lookups(self) -> Figures:
        """Times of looking up 16 neighbours, and as many as a decision uses, with recall."""
        k = self._k
        figures: Figures = {"k": k}
        for name, wanted in (("lookup_16", AIOS_SIMILAR), ("lookup_k", k)):
            figures |= interleaved({name: partial(self._look, k=wanted)})
        found = [self._look(number, AIOS_SIMILAR) for number in range(NEW)]
        return figures | {"recall_at_16": self._recall(found)}

    async def compare(self, folder: Path, *, chroma: bool) -> Figures:
        """Our times beside those of LanceDB and, if wanted, Chroma, in this same process."""
        models = list(self._prices)
        rivals: dict[str, Any] = {
            "lance": await asyncio.to_thread(Lance, folder / "lance", self._rows, models)
        }
        if chroma:
            rivals["chroma"] = await asyncio.to_thread(
                Chroma, folder / "chroma", self._rows, models
            )
        figures = {
            key: value
            for name, rival in rivals.items()
            for key, value in {
                f"{name}_build_s": rival.build_s,
                f"{name}_recall_at_16": self._recall([rival(n)[0] for n in range(NEW)]),
            }.items()
        }
        ours: dict[str, Lookup] = {
            "beside_decision": self._decide,
            "beside_lookup_16": partial(self._look, k=AIOS_SIMILAR),
            "beside_lookup_k": partial(self._look, k=self._k),
        }
        figures |= interleaved({**ours, **rivals})
        for name in rivals:
            figures[f"{name}_over_decision"] = figures[f"{name}_ms"] / figures["beside_decision_ms"]
            figures[f"{name}_over_lookup_16"] = (
                figures[f"{name}_ms"] / figures["beside_lookup_16_ms"]
            )
        return figures

    async def learn(self, items: list[Learned]) -> float:
        """Sends answers to the store; returns when that began, by the node's clock."""
        began = time.monotonic()
        await self._access.learn(items)
        return began

    async def sees(self, embedding: Floats32) -> float:
        """Waits until decisions here know of a query with this embedding; returns when that was,
        by the node's clock."""
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            found = self._decider.evidence.neighbours(embedding[None], AIOS_SIMILAR)
            if found.similarity.max(initial=-1) > _SEEN:
                return time.monotonic()
            await asyncio.sleep(5e-3)
        raise TimeoutError("an answer did not arrive at the router")

    @property
    def _decider(self) -> Any:
        return self._decisions._decider

    @property
    def _k(self) -> int:
        return max(AIOS_SIMILAR, default_n_similar(len(self._decider.evidence)))

    async def _decide(self, number: int) -> Ranking:
        return await self._decisions.decide(self._question(number), self._new[number])

    def _look(self, number: int, k: int) -> list[int]:
        """The rows nearest to a new query; the database numbers them from 1."""
        ids = self._decider.evidence.neighbours(self._new[number : number + 1], k).ids[0]
        return (ids - 1).tolist()  # type: ignore[no-any-return]

    def _recall(self, found: list[list[int]]) -> float:
        return float(np.mean([self._rows.recall(n, ids) for n, ids in enumerate(found)]))

    async def _has_policy(self) -> None:
        """Waits for what decisions prepare in another thread."""
        deadline = time.monotonic() + _WAIT_S
        while not self._decider.ready_for(self._question(0)):
            if time.monotonic() > deadline:
                raise TimeoutError("the router has no policy for the new queries")
            await self._decide(0)
            await asyncio.sleep(0.01)

    def _question(self, number: int) -> Question:
        models = tuple(self._prices)
        text = self._rows.texts[number]
        return Question(
            candidates=models,
            available=models,
            query=text,
            characters=len(text),
            requirement=_REQUIREMENT,
        )


def decided_figures(name: str, decided: Decided) -> Figures:
    """The times of some decisions."""
    return {
        **spread(name, decided.wall),
        f"{name}_cpu_ms": 1e3 * float(np.median(decided.cpu)),
        f"{name}_process_cpu_ms": 1e3 / decided.per_cpu_s,
    }
