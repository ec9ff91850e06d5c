"""The latest samples of all replicas, as one text in Prometheus' format with a bounded size.

Without Ray or HTTP; not thread-safe.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from deployments.telemetry.bounds import Bound
from deployments.telemetry.instruments import INSTRUMENTS
from deployments.telemetry.samples import Samples, Series

MOST_SERIES = 20_000
# Of those, for what is not counted in replicas (see `serve.telemetry.cluster`).
RESERVED = 2_100
REPLICA, ALL = "replica", "all"
_SILENT_S = 30.0  # after which a replica is taken for gone
_MOST_REPLICAS = 2_000
# Replicas that are gone but may come back; of older ones only the sums are kept.
_MOST_GONE = 64


@dataclass(slots=True)
class _Heard:
    samples: Samples
    at: float


class Collection:
    """Keeps each replica's samples until it has been silent for 30 seconds.

    Above `most` series, metrics are summed over the replicas, those with the most series first:
    their label `replica` is then "all". Counts of replicas that are gone stay in these sums, so
    that they don't fall. A metric that has been summed once stays so.

    Args:
        most: series in all.
        clock: seconds.
    """

    def __init__(
        self, most: int = MOST_SERIES - RESERVED, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._clock = most, clock
        self._heard: dict[str, _Heard] = {}
        self._gone: dict[str, Samples] = {}
        self._ended: dict[str, dict[Series, float]] = {}  # sums of those that won't come back
        self._summed: set[str] = set()
        self._bounds = {name: Bound(each.most) for name, each in INSTRUMENTS.items()}

    def push(self, replica: str, samples: Samples) -> None:
        """Takes all samples of a replica, in place of those before."""
        known = {name: each for name, each in samples.items() if name in INSTRUMENTS}
        self._gone.pop(replica, None)
        self._heard[replica] = _Heard(known, self._clock())
        if len(self._heard) > _MOST_REPLICAS:
            self._let_go(min(self._heard, key=lambda name: self._heard[name].at))

    def scrape(self) -> tuple[bytes, frozenset[str]]:
        """All samples, in Prometheus' text format, and the replicas that they are of."""
        return text_of(self.metrics()), frozenset(self._heard)

    def metrics(self) -> list[Metric]:
        """All samples, each with the label `replica`."""
        oldest = self._clock() - _SILENT_S
        for replica in [name for name, heard in self._heard.items() if heard.at < oldest]:
            self._let_go(replica)
        parts = {name: self._by_replica(name) for name in INSTRUMENTS}
        sizes = {name: sum(map(len, part.values())) for name, part in parts.items()}
        for name in sorted(sizes.keys() - self._summed, key=lambda name: -sizes[name]):
            if sum(sizes.values()) <= self._most:
                break
            self._summed.add(name)
            parts[name] = self._by_replica(name)
            sizes[name] = sum(map(len, parts[name].values()))
        return [_metric(name, part) for name, part in parts.items()]

    def totals(self, names: Sequence[str]) -> dict[str, dict[Series, float]]:
        """The samples of these metrics, each summed over all replicas, also those that are gone."""
        return {name: self._sum(name) for name in names}

    def _by_replica(self, name: str) -> Mapping[str, Mapping[Series, float]]:
        """A metric's samples by the value of the label `replica`."""
        if name in self._summed:
            return {ALL: self._sum(name)}
        return {replica: heard.samples.get(name, {}) for replica, heard in self._heard.items()}

    def _sum(self, name: str) -> dict[Series, float]:
        """A metric's samples, summed over the replicas."""
        parts = [heard.samples.get(name, {}) for heard in self._heard.values()]
        if INSTRUMENTS[name].lasts:
            parts += [samples.get(name, {}) for samples in self._gone.values()]
            parts.append(self._ended.get(name, {}))
        total: dict[Series, float] = {}
        for part in parts:
            self._add(name, part, total)
        return total

    def _add(self, name: str, part: Mapping[Series, float], total: dict[Series, float]) -> None:
        joined, bound = INSTRUMENTS[name].joined, self._bounds[name]
        for (sample, labels), value in part.items():
            series = sample, bound.shown(labels)
            total[series] = joined(total[series], value) if series in total else value

    def _let_go(self, replica: str) -> None:
        self._gone[replica] = self._heard.pop(replica).samples
        if len(self._gone) > _MOST_GONE:
            ended = self._gone.pop(next(iter(self._gone)))
            for name, part in ended.items():
                if INSTRUMENTS[name].lasts:
                    self._add(name, part, self._ended.setdefault(name, {}))


def _metric(name: str, by_replica: Mapping[str, Mapping[Series, float]]) -> Metric:
    metric = INSTRUMENTS[name].described()
    for replica, samples in by_replica.items():
        for (sample, labels), value in samples.items():
            metric.add_sample(sample, {**dict(labels), REPLICA: replica}, value)
    return metric


class _Metrics(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def text_of(metrics: Iterable[Metric]) -> bytes:
    """Metrics in Prometheus' text format; those without samples are left out."""
    # A registry is only asked to collect, though its type is the registry's.
    return generate_latest(_Metrics(metric for metric in metrics if metric.samples))
