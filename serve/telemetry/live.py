"""What all routers together do now and did of late, as the console shows it.

Without Ray or HTTP; not thread-safe.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deployments.telemetry.instruments import IN_FLIGHT, OPEN_CIRCUITS, QUEUED
from deployments.telemetry.samples import Samples
from serve.telemetry.history import Histories, History
from serve.telemetry.recent import Gathered, Record


@dataclass(frozen=True, slots=True)
class Report:
    """What a router reports besides its samples.

    Attributes:
        in_flight: calls of each model in progress.
        requests: its latest ones, numbered; see `Recent`.
    """

    in_flight: Mapping[str, int]
    requests: Sequence[tuple[int, Record]]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known at one moment.

    Attributes:
        history: the models' traffic.
        life, requests: the latest requests that the reader doesn't know yet; see `Gathered`.
        open_circuits: the models whose circuit is open in any router.
        queued: the requests to each deployment that no replica has accepted yet.
    """

    history: History
    life: str
    requests: Sequence[tuple[int, Record]]
    open_circuits: frozenset[str]
    queued: Mapping[str, int]


class Live:
    """Gathers the routers' reports.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._histories = Histories(clock)
        self._gathered = Gathered()
        self._gauges: dict[str, _Gauges] = {}

    def push(self, router: str, samples: Samples, report: Report) -> None:
        """Takes a router's report, in place of the one before."""
        self._histories.push(router, samples, report.in_flight)
        self._gathered.add(router, report.requests)
        self._gauges[router] = _Gauges.of(samples)
        self._forget_the_silent()

    def read(self, life: str, after: int) -> Reading:
        """What is known now, with the requests after the last one that the reader knows."""
        history = self._histories.read()
        self._forget_the_silent()
        queued: dict[str, int] = {}
        for gauges in self._gauges.values():
            for deployment, count in gauges.queued.items():
                queued[deployment] = queued.get(deployment, 0) + count
        return Reading(
            history,
            self._gathered.life,
            self._gathered.after(life, after),
            frozenset().union(*(gauges.opened for gauges in self._gauges.values())),
            queued,
        )

    def _forget_the_silent(self) -> None:
        for router in [name for name in self._gauges if name not in self._histories]:
            del self._gauges[router]


@dataclass(frozen=True, slots=True)
class _Gauges:
    """What a router said last of its circuits and of what waits."""

    opened: frozenset[str]
    queued: Mapping[str, int]

    @classmethod
    def of(cls, samples: Samples) -> "_Gauges":
        opened = frozenset(
            labels[0][1]
            for (_, labels), value in samples.get(OPEN_CIRCUITS.name, {}).items()
            if value > 0
        )
        waiting = samples.get(IN_FLIGHT.name, {})
        queued = {
            labels[0][1]: int(value)
            for (_, labels), value in waiting.items()
            if labels[1][1] == QUEUED and value > 0
        }
        return cls(opened, queued)
