"""The requests: predicted qualities and costs of queries that become harder half way."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ops.bench.routing.data import load
from serve.routing.arrays import Floats
from serve.routing.forecast.fitting import refit
from serve.routing.forecast.predictor import price_prior

REQUESTS = 40_000
_RECORDED = "zeroeval"
_EASY = 0.4  # this share of the queries, the easiest, come no more after the shift
_SYNTHETIC_QUERIES, _SYNTHETIC_MODELS = 4000, 24


@dataclass(frozen=True)
class Traffic:
    """n requests over m models; the second half is harder.

    Attributes:
        name: of the queries.
        requirement: mean quality to hold.
        past_quality, past_cost: (p, m) of earlier queries, like those of the first half.
        quality, cost: (n, m) predicted; USD.
    """

    name: str
    requirement: float
    past_quality: Floats
    past_cost: Floats
    quality: Floats
    cost: Floats


def traffic(folder: Path | None, cache: Path) -> Traffic:
    """Requests drawn from recorded queries, or from synthetic ones without a folder.

    Args:
        folder: of the recorded outcomes, as for `ops.bench.routing`.
        cache: of the recorded queries' embeddings.
    """
    random = np.random.default_rng(0)
    quality, cost = _synthetic(random) if folder is None else _recorded(folder, cache)
    ease = np.argsort(-quality.mean(axis=1))
    hard = ease[int(_EASY * len(ease)) :]
    half = REQUESTS // 2
    rows = np.concatenate([random.integers(len(quality), size=half), random.choice(hard, half)])
    # Within reach before and after: half way between the cheapest and the best on hard queries.
    single = quality[hard].mean(axis=0)
    requirement = float(single[cost.mean(axis=0).argmin()] + single.max()) / 2
    name = "synthetic queries" if folder is None else _RECORDED
    return Traffic(name, round(requirement, 2), quality, cost, quality[rows], cost[rows])


def _recorded(folder: Path, cache: Path) -> tuple[Floats, Floats]:
    """Predictions for each recorded query from all the others, by the fitted predictor."""
    data = load(_RECORDED, folder, cache)
    rows = np.arange(len(data.ids))
    tested = refit(data.snapshot(rows), price_prior(data.prices)).backtest
    return tested.quality, data.predicted_cost(rows, tested.output_tokens)


def _synthetic(random: np.random.Generator) -> tuple[Floats, Floats]:
    """Models over three decades of prices, of which dearer ones tend to be better."""
    shape = _SYNTHETIC_QUERIES, _SYNTHETIC_MODELS
    cost = np.geomspace(1e-5, 1e-2, shape[1]) * np.exp(random.normal(0, 0.5, shape))
    skill = np.linspace(-1, 1.5, shape[1]) + random.normal(0, 1, (shape[0], 1))
    return 1 / (1 + np.exp(-skill - random.normal(0, 0.5, shape))), cost
