"""The share of a new model's gain that each number of its scored answers gives."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ops.bench.exploring.fleets import Newcomer, hidden
from ops.bench.exploring.worth import Fit, values
from serve.routing.arrays import Floats

SCORED = 0, 25, 50, 100, 200
GOAL, AT = 0.95, 100
_RESAMPLES = 2000


@dataclass(frozen=True)
class Curve:
    """What one new model gains, on held-out queries.

    Attributes:
        name: of its fleet.
        model: its column there.
        full: with its full history, in points of quality at the multipliers.
        gains: likewise, at each of `SCORED`.
    """

    name: str
    model: int
    full: float
    gains: list[float]


def learning(newcomers: Iterator[Newcomer]) -> Iterator[Curve]:
    """The curve of each new model; its answers are to random past queries."""
    for new in newcomers:
        data, test, model = new.data, new.test, new.model
        history = data.snapshot(new.past)
        order = new.random.permutation(len(new.past))
        nothing = Fit.of(data, hidden(history, model, order[:0]))
        without = _worth(new, nothing, [model])
        fits = [nothing, *(Fit.of(data, hidden(history, model, order[:k])) for k in SCORED[1:])]
        gains = [_worth(new, fit) - without for fit in fits]
        full = new.full.predict(data, test)
        gain = float(values(data, test, full, new.multipliers).mean()) - without
        yield Curve(new.name, model, gain, gains)


def _worth(new: Newcomer, fit: Fit, without: list[int] | None = None) -> float:
    guess = fit.predict(new.data, new.test)
    return float(values(new.data, new.test, guess, new.multipliers, without or []).mean())


def shares(curves: list[Curve]) -> Floats:
    """(curves, scored) of the gain of the full history."""
    found: Floats = np.array([np.array(curve.gains) / curve.full for curve in curves])
    return found


def median(share: Floats) -> tuple[Floats, Floats]:
    """(scored,) medians, and their standard errors by resampling the new models."""
    random = np.random.default_rng(0)
    drawn = random.integers(len(share), size=(_RESAMPLES, len(share)))
    return np.median(share, axis=0), np.median(share[drawn], axis=1).std(axis=0)
