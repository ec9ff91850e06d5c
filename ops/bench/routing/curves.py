"""Curves of quality over cost, and the figures that summarise them."""

import numpy as np

from deployments.store.evidence import Integers
from ops.bench.routing.data import Data
from serve.routing.arrays import Floats

MULTIPLIERS = np.concatenate([[0.0], np.geomspace(1e-6, 1e1, 300)])
CLOSE = 0.02  # CR is at this much less than the best single model's quality
RESAMPLES = 200


def hull(points: Floats) -> Floats:
    """The non-decreasing concave hull of (cost, quality) points (p, 2), by increasing cost."""
    kept: list[tuple[float, float]] = []
    best = -np.inf
    for cost, quality in sorted(map(tuple, points)):
        if quality <= best:
            continue
        best = quality
        while len(kept) > 1 and (quality - kept[-2][1]) * (kept[-1][0] - kept[-2][0]) >= (
            kept[-1][1] - kept[-2][1]
        ) * (cost - kept[-2][0]):
            kept.pop()
        kept.append((cost, quality))
    return np.array(kept)


def quality_at(points: Floats, cost: Floats | float) -> Floats:
    """The hull's quality at these costs."""
    line = hull(points)
    height: Floats = np.interp(np.asarray(cost), line[:, 0], line[:, 1])
    return height


def cost_at(points: Floats, quality: float) -> float:
    """The least cost at which the hull reaches this quality; infinite if it never does."""
    line = hull(points)
    if quality > line[-1, 1]:
        return np.inf
    return float(np.interp(quality, line[:, 1], line[:, 0]))


def singles(data: Data, rows: Integers) -> Floats:
    """(cost, quality) of each model alone, averaged over the rows."""
    return np.column_stack([data.cost[rows].mean(axis=0), data.score[rows].mean(axis=0)])


def summary(points: Floats, alone: Floats) -> dict[str, float]:
    """AIQ: the hull's mean quality between the costs of the cheapest and the best single model.
    CR: the cost of the best one's quality less two points, relative to the best one's cost.
    Parity: that of its quality itself, likewise."""
    best = alone[alone[:, 1].argmax()]
    span = np.linspace(alone[:, 0].min(), best[0], 20_001)
    return {
        "aiq": float(quality_at(points, span).mean()),
        "cr": cost_at(points, best[1] - CLOSE) / float(best[0]),
        "parity": cost_at(points, best[1]) / float(best[0]),
    }


def realised(data: Data, rows: Integers, choice: Integers) -> tuple[float, float]:
    """The (cost, quality) that a choice really gave, averaged over the rows."""
    return float(data.cost[rows, choice].mean()), float(data.score[rows, choice].mean())


def outcomes(data: Data, rows: Integers, quality: Floats, cost: Floats) -> tuple[Floats, Floats]:
    """The costs and scores (rows, multipliers) that each multiplier really gives."""
    choices = np.array([(cost - price * quality).argmin(axis=1) for price in MULTIPLIERS]).T
    paid, score = (np.take_along_axis(truth[rows], choices, 1) for truth in (data.cost, data.score))
    return paid, score


def curve(data: Data, rows: Integers, quality: Floats, cost: Floats) -> Floats:
    """The (cost, quality) that each multiplier really gives."""
    return mean_curve(*outcomes(data, rows, quality, cost))


def mean_curve(cost: Floats, score: Floats) -> Floats:
    """The mean (cost, quality) of each multiplier, of `outcomes`."""
    return np.column_stack([cost.mean(axis=0), score.mean(axis=0)])


def standard_errors(data: Data, rows: Integers, cost: Floats, score: Floats) -> dict[str, float]:
    """Bootstrap standard errors of the summary of these `outcomes`."""
    uniform = np.full(len(rows), 1 / len(rows))
    found = []
    for share in np.random.default_rng(0).multinomial(len(rows), uniform, RESAMPLES) / len(rows):
        points = np.column_stack([share @ cost, share @ score])
        alone = np.column_stack([share @ data.cost[rows], share @ data.score[rows]])
        found.append(summary(points, alone))
    return {
        key: float(np.std([one[key] for one in found if np.isfinite(one[key])])) for key in found[0]
    }
