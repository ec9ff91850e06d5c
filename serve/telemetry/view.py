"""A router replica's view of what all routers do: its own part of the reports, and the reading."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from deployments.telemetry.instruments import REGISTRY
from deployments.telemetry.reporting import ACTOR_NAME
from deployments.telemetry.samples import Series, samples_of
from serve.actors import ActorClient, ActorUnavailable
from serve.telemetry.history import History
from serve.telemetry.live import Live, Reading, Report
from serve.telemetry.recent import MOST, Recent, Record

logger = logging.getLogger("ray.serve")

_TIMEOUT_S = 2.0
_FRESH_S = 1.0
_OWN = "own"

Totals = dict[str, dict[Series, float]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a router knows of all of them.

    Attributes:
        history: the models' traffic.
        life: of the requests' numbers.
        requests: the latest ones, numbered, oldest first.
        open_circuits, queued: see `Reading`.
        whole: whether it is of all routers, rather than of this one alone.
    """

    history: History
    life: str
    requests: Sequence[tuple[int, Record]]
    open_circuits: frozenset[str]
    queued: Mapping[str, int]
    whole: bool


class View:
    """Keeps the latest requests of all routers, so that each is fetched once. However many ask, the
    actor is asked for each thing once a second at most.

    Args:
        in_flight: how many calls of each model this router has in progress.
    """

    def __init__(self, in_flight: Callable[[], Mapping[str, int]]) -> None:
        self.recent = Recent()
        self._in_flight = in_flight
        self._actor = ActorClient(ACTOR_NAME, timeout_s=_TIMEOUT_S)
        self._one_at_a_time = asyncio.Lock()
        self._alone = Live()
        self._life, self._requests = "", deque[tuple[int, Record]](maxlen=MOST)
        self._totals: dict[tuple[str, ...], tuple[float, Totals]] = {}
        self._seen: Seen | None = None
        self._at = -inf

    def report(self) -> Report:
        """What this router reports. Any thread may call it."""
        return Report(dict(self._in_flight()), self.recent.numbered())

    async def seen(self) -> Seen:
        """What is known, a second old at most; of this router alone while the actor is away."""
        async with self._one_at_a_time:
            if self._seen is None or time.monotonic() - self._at > _FRESH_S:
                self._seen = await self._read()
                self._at = time.monotonic()
        return self._seen

    async def totals(self, *names: str) -> Totals:
        """The samples of these metrics, summed over all replicas, or else those of this one; a
        second old at most."""
        async with self._one_at_a_time:
            at, totals = self._totals.get(names, (-inf, {}))
            if time.monotonic() - at > _FRESH_S:
                totals = await self._read_totals(names)
                self._totals[names] = time.monotonic(), totals
        return totals

    async def _read_totals(self, names: Sequence[str]) -> Totals:
        try:
            totals: Totals = await self._actor.call("totals", names)
        except ActorUnavailable as error:
            logger.warning("only this router's totals are shown: %s", error)
            own = await asyncio.to_thread(samples_of, REGISTRY)
            return {name: own.get(name, {}) for name in names}
        return totals

    async def _read(self) -> Seen:
        last = self._requests[-1][0] if self._requests else 0
        try:
            reading: Reading = await self._actor.call("live", self._life, last)
        except ActorUnavailable as error:
            logger.warning("only this router's traffic is shown: %s", error)
            reading = await asyncio.to_thread(self._read_alone, self._life, last)
            return self._merged(reading, whole=False)
        return self._merged(reading, whole=True)

    def _read_alone(self, life: str, last: int) -> Reading:
        self._alone.push(_OWN, samples_of(REGISTRY), self.report())
        return self._alone.read(life, last)

    def _merged(self, reading: Reading, *, whole: bool) -> Seen:
        if reading.life != self._life:
            self._life = reading.life
            self._requests.clear()
        self._requests.extend(reading.requests)
        requests = list(self._requests)
        opened, queued = reading.open_circuits, reading.queued
        return Seen(reading.history, self._life, requests, opened, queued, whole)
