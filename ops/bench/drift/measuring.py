"""How far a run drifted, how soon it recovered, and what it cost."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import process_time

import numpy as np

from ops.bench.drift.fleet import (
    Averaging,
    Fleet,
    PlainAveraging,
    Summing,
    run,
)
from ops.bench.drift.traffic import REQUESTS, Traffic
from serve.routing.arrays import Floats
from serve.routing.optimise.batch import assign

ROUTERS = (1, 2, 4, 8, 16, 32, 64)
RATES = (100, 2000)  # requests each second, in all
OURS = "ours"
WAYS: dict[str, Callable[[int, float], Fleet]] = {  # from routers and requests each second
    "none": partial(Fleet, store=None),
    "sum": partial(Fleet, store=Summing),
    "average": partial(Fleet, store=PlainAveraging),
    "average, offset": partial(Fleet, store=Averaging),
    OURS: Fleet,
    "ours, 4 times a second": partial(Fleet, interval_s=0.25),
}
_CLOSE = 0.01
_WINDOW = 1000
_WARM = 10_000  # requests; until then the mean over all is not counted
OTHERS: dict[str, Callable[[int, float], Fleet]] = {
    "one exchange in ten lost": partial(Fleet, lost=0.1),
    "half of the routers join late": partial(Fleet, late=True),
}


@dataclass(frozen=True)
class Figures:
    """Of one run.

    Attributes:
        last_1000, last_10000: the largest |mean of that many successive requests − requirement|.
        overall: the largest |mean of all requests so far − requirement| after 10,000.
        end: the mean of all − requirement.
        steady: `last_1000`, before the shift alone.
        recovery: requests after the shift until the mean of the last 1,000 is within .01; None if
            it never is.
        cost: in USD, all requests.
        over_optimum: `cost` relative to the least for which one batch has the same quality.
    """

    last_1000: float
    last_10000: float
    overall: float
    end: float
    steady: float
    recovery: int | None
    cost: float
    over_optimum: float


def measure(traffic: Traffic) -> tuple[dict[str, dict[int, dict[int, Figures]]], float]:
    """Figures by way, rate and number of routers; and the microseconds that a decision took."""
    began, runs = process_time(), 0
    found: dict[str, dict[int, dict[int, Figures]]] = {}
    for way, fleet in WAYS.items():
        for rate in RATES:
            for routers in ROUTERS:
                of = figures(traffic, fleet(routers, rate))
                found.setdefault(way, {}).setdefault(rate, {})[routers] = of
                runs += 1
    return found, 1e6 * (process_time() - began) / (runs * REQUESTS)


def figures(traffic: Traffic, fleet: Fleet) -> Figures:
    """Runs and measures."""
    quality, cost = run(fleet, traffic)
    error, half = quality - traffic.requirement, REQUESTS // 2
    short, long = _means(error, _WINDOW), _means(error, 10 * _WINDOW)
    overall = np.cumsum(error) / np.arange(1, REQUESTS + 1)
    close = np.flatnonzero(np.abs(short[half:]) < _CLOSE)
    spent = float(cost.sum())
    return Figures(
        last_1000=float(np.abs(short[_WINDOW:]).max()),
        last_10000=float(np.abs(long).max()),
        overall=float(np.abs(overall[_WARM:]).max()),
        end=float(overall[-1]),
        steady=float(np.abs(short[_WINDOW : half - _WINDOW]).max()),
        recovery=int(close[0]) + _WINDOW if close.size else None,
        cost=spent,
        over_optimum=spent / assign(traffic.quality, traffic.cost, float(quality.mean())).cost,
    )


def _means(values: Floats, window: int) -> Floats:
    """Of each `window` successive values, by the number of the first."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Floats = (sums[window:] - sums[:-window]) / window
    return means
