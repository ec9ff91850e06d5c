"""Queries whose models change half way without a new name: better, worse, or not at all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deployments.store.evidence import Floats32
from ops.bench.routing.data import load
from serve.routing.arrays import Floats
from serve.routing.forecast.predictor import price_prior

_RECORDED = "mmlu_pro"  # the larger of the two
_MODELS, _DIMENSIONS = 8, 32  # of synthetic queries
_SHIFT = 0.25  # of a model's quality on every query
_CLOSE = 0.2, 0.35  # how much worse a model is that swaps scores with the favourite


@dataclass(frozen=True)
class World:
    """n queries in the order in which they are asked, and m models.

    Attributes:
        name: of the queries.
        embeddings: (n, d), each of length 1.
        quality: (n, m) expected, 0 to 1.
        score: (n, m) of the answers, 0 to 1; what is learned.
        cost: (n, m) in USD, as expected before the answer.
        prior: (m,) qualities to begin with.
    """

    name: str
    embeddings: Floats32
    quality: Floats
    score: Floats
    cost: Floats
    prior: Floats

    @property
    def multiplier(self) -> float:
        """USD that a unit of quality is worth: what it costs from the cheapest to the best."""
        quality, cost = self.quality.mean(axis=0), self.cost.mean(axis=0)
        best, cheapest = quality.argmax(), cost.argmin()
        return float((cost[best] - cost[cheapest]) / (quality[best] - quality[cheapest]))

    @property
    def value(self) -> Floats:
        """(n, m) quality less cost, in units of quality."""
        return self.quality - self.cost / self.multiplier


Change = Callable[[World], World]


def synthetic(queries: int, seed: int) -> World:
    """Two directions of the embeddings are difficulty, each for half of the models; dearer models
    tend to be better."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(queries, _DIMENSIONS)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    skill = np.linspace(-0.8, 1.4, _MODELS) + random.normal(0, 0.3, _MODELS)
    ease = 5 * embeddings[:, np.arange(_MODELS) % 2].astype(np.float64)
    quality = 1 / (1 + np.exp(-skill - ease))
    cost = np.broadcast_to(np.geomspace(1e-4, 3e-3, _MODELS), quality.shape)
    prior = np.full(_MODELS, 0.6)
    return World(
        "synthetic", embeddings, quality, _scored(quality, seed), cost.astype(np.float64), prior
    )


def recorded(folder: Path, cache: Path, seed: int) -> World:
    """Recorded outcomes, in random order; costs are of answers of mean length."""
    data = load(_RECORDED, folder, cache)
    order = np.random.default_rng(seed).permutation(len(data.ids))
    tokens = np.broadcast_to(data.output_tokens.mean(axis=0), data.score.shape)
    cost = data.predicted_cost(np.arange(len(order)), tokens)[order]
    score, prior = data.score[order], price_prior(data.prices)
    return World(_RECORDED, data.embeddings[order], score, score, cost, prior)


def worse(world: World) -> World:
    """The model that is worth most loses .25 of its quality on every query."""
    return _shifted(world, int(world.value.mean(axis=0).argmax()), -_SHIFT)


def better(world: World) -> World:
    """The model that is worth third most gains .25 of quality on every query."""
    return _shifted(world, int(world.value.mean(axis=0).argsort()[-3]), _SHIFT)


def swapped(world: World) -> World:
    """The model that is worth most swaps its scores with one that is .2 to .35 worse, and whose
    cost is nearest."""
    quality, cost = world.quality.mean(axis=0), world.cost.mean(axis=0)
    favourite = int(world.value.mean(axis=0).argmax())
    gap = quality[favourite] - quality
    far = np.where((gap >= _CLOSE[0]) & (gap <= _CLOSE[1]), abs(np.log(cost / cost[favourite])), 99)
    other = int(far.argmin())
    order = np.arange(len(quality))
    order[[favourite, other]] = other, favourite
    return replace(world, quality=world.quality[:, order], score=world.score[:, order])


def same(world: World) -> World:
    """Nothing changes."""
    return world


CHANGES: Mapping[str, Mapping[str, Change]] = {
    "synthetic": {
        "none": same,
        "the favourite .25 worse": worse,
        "the third best .25 better": better,
    },
    _RECORDED: {"none": same, "the favourite and a worse model swapped": swapped},
}
"""By the name of a world, then by what is said of the change."""


def _shifted(world: World, model: int, by: float) -> World:
    quality = world.quality.copy()
    quality[:, model] = np.clip(quality[:, model] + by, 0.0, 1.0)
    return replace(world, quality=quality, score=_scored(quality, len(quality)))


def _scored(quality: Floats, seed: int) -> Floats:
    drawn = np.random.default_rng(seed).random(quality.shape)
    return (drawn < quality).astype(np.float64)
