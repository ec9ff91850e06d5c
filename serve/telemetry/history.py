"""Each model's traffic over the last ten minutes, from the counts that routers report.

Without Ray or HTTP; not thread-safe. Counts only grow, so what happened between two reports of a
router is their difference, spread evenly over the time between them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor, inf

import numpy as np
import numpy.typing as npt

from deployments.telemetry.conventions import (
    DURATION_BUCKETS,
    ERROR,
    OUTPUT,
    REQUEST_MODEL,
    TOKEN_TYPE,
)
from deployments.telemetry.instruments import (
    ANSWERED,
    ATTEMPTS,
    CANCELLED,
    CLIENT_DURATION,
    CLIENT_FIRST_CHUNK,
    CLIENT_TOKENS,
    COST,
)
from deployments.telemetry.samples import Labels, Samples

POINT_S, POINTS = 2.0, 300
RATES = ("requests_per_s", "output_tokens_per_s", "errors_per_s", "usd_per_s")
SERIES = (*RATES, "first_token_s_p50", "in_flight")
# Of a server with more models that have traffic, the busiest: a reply stays below 2 MB.
MOST_SHOWN = 100

_NOW, _MINUTE = 5, 30  # points that say what is going on now, and how long it takes
_SILENT_S = 30.0  # after which a router is taken for gone
_HEARD_S = 10.0  # a router that runs reports every two seconds
_LATE_S = 2.2  # until the reports of all routers about a moment are there
_MOST_ROUTERS, _MOST_MODELS, _MOST_MEASURED = 1_000, 2_000, 64

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds that half, and nine in ten, took at most; None where nothing was measured."""

    p50: float | None = None
    p90: float | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """A model's traffic.

    Attributes:
        rates: of the last ten seconds, a second, in the order of `RATES`; NaN where unknown.
        in_flight: calls in progress.
        first_token, duration: of the last minute: of streams, and of calls that were answered.
        past: (6, n) the `SERIES` of each point, oldest first; None where there is no traffic.
    """

    rates: tuple[float, ...]
    in_flight: int
    first_token: Percentiles
    duration: Percentiles
    past: Floats | None


@dataclass(frozen=True, slots=True)
class History:
    """All models' traffic.

    Attributes:
        begins: when the first of the n points begins, in seconds since 1970.
        points: n.
        routers: how many have reported in the last ten seconds.
        models: by their names, those that are known to have had traffic.
    """

    begins: float
    points: int
    routers: int
    models: Mapping[str, Traffic]


@dataclass(slots=True)
class _Heard:
    """What a router said last."""

    at: float
    counts: dict[str, Floats]
    first_token: dict[str, Floats]
    duration: dict[str, Floats]
    in_flight: Mapping[str, int]


class _Model:
    """A ring of points for each series; a point of `measured` is a histogram."""

    __slots__ = ("counts", "duration", "first_token", "in_flight")

    def __init__(self) -> None:
        self.counts = np.zeros((len(RATES), POINTS))
        self.in_flight = np.zeros(POINTS)
        self.first_token: Floats | None = None
        self.duration: Floats | None = None

    def clear(self, places: npt.NDArray[np.int64]) -> None:
        self.counts[:, places] = 0.0
        self.in_flight[places] = 0.0
        for measured in (self.first_token, self.duration):
            if measured is not None:
                measured[places] = 0.0


class Histories:
    """Keeps ten minutes of points.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._heard: dict[str, _Heard] = {}
        self._models: dict[str, _Model] = {}
        self._began = self._tick = floor(clock() / POINT_S)

    def __contains__(self, router: str) -> bool:
        """Whether a router has reported of late."""
        return router in self._heard

    def push(self, router: str, samples: Samples, in_flight: Mapping[str, int]) -> None:
        """Takes a router's samples, and how many calls of each model it has in progress."""
        now = self._clock()
        self._advance(now)
        heard = _read(now, samples, in_flight)
        before = self._heard.pop(router, None)
        self._heard[router] = heard
        if len(self._heard) > _MOST_ROUTERS:
            del self._heard[next(iter(self._heard))]
        if before is not None:  # else nobody knows since when it has counted
            self._add(before, heard)
        in_progress = self._in_flight(now)
        for name in in_progress:
            self._model(name)
        for name, model in self._models.items():
            model.in_flight[self._tick % POINTS] = in_progress.get(name, 0)

    def read(self) -> History:
        """What is known now. The newest point is one that all routers have reported on."""
        now = self._clock()
        self._advance(now)
        last = floor((now - _LATE_S) / POINT_S)  # the first point that isn't whole yet
        first = max(self._began, self._tick - POINTS + 1)
        ticks = np.arange(first, max(first, last))
        places = ticks % POINTS
        minute = np.arange(max(self._began, self._tick - _MINUTE), self._tick + 1) % POINTS
        in_flight = self._in_flight(now)
        totals = {
            name: float(model.counts[0].sum() + model.in_flight.sum())
            for name, model in self._models.items()
        }
        for name in [name for name, total in totals.items() if not total]:
            del self._models[name], totals[name]
        shown = set(sorted(totals, key=lambda name: -totals[name])[:MOST_SHOWN])
        models = {
            name: Traffic(
                rates=_rates(model, places[-_NOW:]),
                in_flight=in_flight.get(name, 0),
                first_token=_percentiles(model.first_token, minute),
                duration=_percentiles(model.duration, minute),
                past=_past(model, places) if name in shown else None,
            )
            for name, model in self._models.items()
        }
        heard = sum(heard.at > now - _HEARD_S for heard in self._heard.values())
        return History(first * POINT_S, len(ticks), heard, models)

    def _advance(self, now: float) -> None:
        """Makes room for the points up to now."""
        tick = floor(now / POINT_S)
        if tick <= self._tick:
            return
        places = np.arange(max(self._tick + 1, tick - POINTS + 1), tick + 1) % POINTS
        for model in self._models.values():
            model.clear(places)
        for name, count in self._in_flight(now).items():
            if name in self._models:  # until the next report says otherwise
                self._models[name].in_flight[places] = count
        self._tick = tick
        for router in [name for name, heard in self._heard.items() if heard.at < now - _SILENT_S]:
            del self._heard[router]

    def _add(self, before: _Heard, heard: _Heard) -> None:
        # Of a clock that was set back, all happened now.
        begin = min(max(before.at, heard.at - _SILENT_S), heard.at)
        places, share = _spread(begin, heard.at)
        for name, counts in heard.counts.items():
            more = np.maximum(counts - before.counts.get(name, 0.0), 0.0)
            if more.any() and (model := self._model(name)) is not None:
                model.counts[:, places] += more[:, None] * share
        for kind in ("first_token", "duration"):
            known: dict[str, Floats] = getattr(before, kind)
            for name, counts in getattr(heard, kind).items():
                more = np.maximum(counts - known.get(name, 0.0), 0.0)
                if more.any() and (ring := self._ring(name, kind)) is not None:
                    ring[places] += share[:, None] * more

    def _model(self, name: str) -> _Model | None:
        """A model's points; None if there are too many models already."""
        model = self._models.get(name)
        if model is None and len(self._models) < _MOST_MODELS:
            model = self._models[name] = _Model()
        return model

    def _ring(self, name: str, kind: str) -> Floats | None:
        """The histograms of a model; None if there are too many already."""
        model = self._model(name)
        if model is None:
            return None
        ring: Floats | None = getattr(model, kind)
        if ring is None:
            measured = sum(
                each.duration is not None or each.first_token is not None
                for each in self._models.values()
            )
            if measured >= _MOST_MEASURED and model.duration is None and model.first_token is None:
                return None
            ring = np.zeros((POINTS, len(DURATION_BUCKETS) + 1))
            setattr(model, kind, ring)
        return ring

    def _in_flight(self, now: float) -> dict[str, int]:
        total: dict[str, int] = {}
        for heard in self._heard.values():
            if heard.at > now - _HEARD_S:
                for name, count in heard.in_flight.items():
                    total[name] = total.get(name, 0) + count
        return total


def _spread(begin: float, end: float) -> tuple[npt.NDArray[np.int64], Floats]:
    """The places of the points between two times, and which share of that time each has."""
    ticks = np.arange(floor(begin / POINT_S), floor(end / POINT_S) + 1)
    overlap = np.minimum((ticks + 1) * POINT_S, end) - np.maximum(ticks * POINT_S, begin)
    total = overlap.sum()
    share = overlap / total if total > 0 else np.full(len(ticks), 1 / len(ticks))
    return ticks % POINTS, share


# --- from a router's samples ---

_PLACE = {name: place for place, name in enumerate(RATES)}
_BOUNDS = {bound: place for place, bound in enumerate((*DURATION_BUCKETS, inf))}


def _read(now: float, samples: Samples, in_flight: Mapping[str, int]) -> _Heard:
    heard = _Heard(now, {}, {}, {}, {name: count for name, count in in_flight.items() if count})

    def count(name: str, model: str, value: float) -> None:
        if model not in heard.counts:
            heard.counts[model] = np.zeros(len(RATES))
        heard.counts[model][_PLACE[name]] += value

    for series, value in samples.get(ATTEMPTS.name, {}).items():
        (_, model), (_, outcome) = series[1]
        count("requests_per_s", model, value)
        if outcome not in (ANSWERED, CANCELLED):
            count("errors_per_s", model, value)
    for series, value in samples.get(COST.name, {}).items():
        ((_, model),) = series[1]
        count("usd_per_s", model, value)
    for (name, labels), value in samples.get(CLIENT_TOKENS.name, {}).items():
        if name.endswith("_sum") and _is(labels, TOKEN_TYPE, OUTPUT):
            count("output_tokens_per_s", _of(labels, REQUEST_MODEL), value)
    _histograms(samples, CLIENT_FIRST_CHUNK.name, heard.first_token)
    _histograms(samples, CLIENT_DURATION.name, heard.duration)
    return heard


def _histograms(samples: Samples, metric: str, into: dict[str, Floats]) -> None:
    """The counts of each bucket, by model, of the calls that didn't fail. Prometheus' counts
    include those of the buckets below, so these do, too."""
    for (name, labels), value in samples.get(metric, {}).items():
        if not name.endswith("_bucket"):
            continue
        values = dict(labels)
        if values.get(ERROR):
            continue
        model = values[REQUEST_MODEL]
        if model not in into:
            into[model] = np.zeros(len(_BOUNDS))
        into[model][_BOUNDS[float(values["le"])]] += value


def _of(labels: Labels, name: str) -> str:
    return next((value for label, value in labels if label == name), "")


def _is(labels: Labels, name: str, value: str) -> bool:
    return (name, value) in labels


# --- to what is shown ---


def _rates(model: _Model, places: npt.NDArray[np.int64]) -> tuple[float, ...]:
    if not len(places):
        return (np.nan,) * len(RATES)
    total = model.counts[:, places].sum(axis=1) / (len(places) * POINT_S)
    return tuple(total.tolist())


def _percentiles(measured: Floats | None, places: npt.NDArray[np.int64]) -> Percentiles:
    if measured is None:
        return Percentiles()
    counts = measured[places].sum(axis=0)[None]
    found = [float(quantile(counts, share)[0]) for share in (0.5, 0.9)]
    return Percentiles(*(None if np.isnan(value) else value for value in found))


def _past(model: _Model, places: npt.NDArray[np.int64]) -> Floats:
    first = np.full(len(places), np.nan)
    if model.first_token is not None:
        first = quantile(model.first_token[places], 0.5)
    rates = model.counts[:, places] / POINT_S
    return np.concatenate([rates, first[None], model.in_flight[None, places]])


def quantile(counts: Floats, share: float) -> Floats:
    """(n,) a quantile of n histograms of seconds, by straight lines within the buckets; NaN where
    nothing was counted.

    Args:
        counts: (n, buckets) cumulative, with the bounds `DURATION_BUCKETS` and infinity; of what is
            above the last finite bound only that is known.
        share: 0 to 1.

    Source: https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile
    """
    bounds = np.array([0.0, *DURATION_BUCKETS, DURATION_BUCKETS[-1]])
    below = np.concatenate([np.zeros((len(counts), 1)), counts], axis=1)
    wanted = share * counts[:, -1]
    place = (counts < wanted[:, None]).sum(axis=1)
    place = np.minimum(place, counts.shape[1] - 1)
    rows = np.arange(len(counts))
    low, high = below[rows, place], below[rows, place + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(high > low, (wanted - low) / (high - low), 1.0)
    seconds = bounds[place] + part * (bounds[place + 1] - bounds[place])
    found: Floats = np.where(counts[:, -1] > 0, seconds, np.nan)
    return found
