"""What choices by a fit are worth, and which models' histories gain something."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deployments.store.evidence import Integers, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from ops.bench.routing.data import Data
from serve.routing.arrays import Floats
from serve.routing.forecast.fitting import Refit, backtest_rows, refit
from serve.routing.forecast.predictor import price_prior
from serve.routing.optimise.batch import assign

_WANTED = 0.5, 0.6, 0.7, 0.8, 0.9  # of the way from the cheapest model's quality to the best one's
_CLEAR = 3.0  # standard errors


@dataclass(frozen=True)
class Fit:
    """A predictor fitted on past queries, with their evidence."""

    snapshot: Snapshot
    fitted: Refit

    @classmethod
    def of(cls, data: Data, snapshot: Snapshot) -> "Fit":
        """Fits on these past queries of the data."""
        return cls(snapshot, refit(snapshot, price_prior(data.prices)))

    def predict(self, data: Data, rows: Integers) -> tuple[Floats, Floats]:
        """(rows, m) quality and cost in USD."""
        evidence, predictor = SnapshotEvidence(self.snapshot), self.fitted.predictor
        k = predictor.smoothing.n_similar(len(self.snapshot), 1)
        quality, cost = np.zeros((2, len(rows), len(data.prices)))
        for part in np.array_split(np.arange(len(rows)), len(rows) // 256 + 1):
            at = rows[part]
            found = evidence.neighbours(data.embeddings[at], k)
            texts = [data.queries[row] for row in at]
            guess = predictor.predict(texts, data.embeddings[at], found, evidence.means())
            quality[part] = guess.quality
            cost[part] = data.predicted_cost(at, guess.output_tokens)
        return quality, cost


def multipliers(quality: Floats, cost: Floats, score: Floats) -> Floats:
    """Prices of quality in USD that meet some requirements, by the predictions and scores (n, m) of
    past queries."""
    alone = score.mean(axis=0)
    low, high = alone[cost.mean(axis=0).argmin()], alone.max()
    found = np.array(
        [assign(quality, cost, low + way * (high - low)).multiplier for way in _WANTED]
    )
    useful: Floats = found[np.isfinite(found) & (found > 0)]
    return useful


def values(
    data: Data,
    rows: Integers,
    predicted: tuple[Floats, Floats],
    prices: Floats,
    without: Sequence[int] = (),
) -> Floats:
    """(rows,) what choices by these predictions are worth: the score less cost / multiplier, mean
    over the multipliers."""
    quality, cost = predicted
    total = np.zeros(len(rows))
    for price in prices:
        weighed = cost - price * quality
        weighed[:, list(without)] = np.inf
        choice = weighed.argmin(axis=1)
        total += data.score[rows, choice] - data.cost[rows, choice] / price
    return total / len(prices)


def past(data: Data, train: Integers, fit: Fit) -> tuple[Integers, Floats, Floats]:
    """Past queries, and their quality and cost predicted without knowledge of them."""
    rows, tested = train[backtest_rows(fit.snapshot)], fit.fitted.backtest
    return rows, tested.quality, data.predicted_cost(rows, tested.output_tokens)


def worthwhile(data: Data, train: Integers, fit: Fit) -> dict[int, Floats]:
    """The models whose history gains clearly more than none, with the multipliers that the others
    need: by past queries alone, each predicted without knowledge of it."""
    rows, quality, cost = past(data, train, fit)
    chosen = {}
    for model in range(len(data.prices)):
        others = np.delete(np.arange(len(data.prices)), model)
        prices = multipliers(quality[:, others], cost[:, others], data.score[np.ix_(rows, others)])
        if not len(prices):  # the cheapest one is the best one
            continue
        guess = quality, cost
        gain = values(data, rows, guess, prices) - values(data, rows, guess, prices, [model])
        if gain.mean() > _CLEAR * gain.std() / len(gain) ** 0.5:
            chosen[model] = prices
    return chosen
