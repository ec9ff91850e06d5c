"""The learned predictor: neighbours and a ridge regression, averaged, fitted on a snapshot.

Fitting makes a new predictor beside the one in use; `refit` gives it only if it predicts the
fitted rows, each left out in turn, better than neighbours alone do, so that a worse one is never
swapped in.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Floats32, Means, Neighbours, Snapshot
from deployments.store.nearest import nearest
from serve.routing.dual import Floats, assign
from serve.routing.predictor import (
    NeighbourPredictor,
    Prediction,
    Predictor,
    default_n_similar,
)
from serve.routing.ridge import Ridge, fit_ridge

_SHARE = 1 / 3  # of the regression where outcomes are many; chosen by cross-validation
_CAUTION = 200.0  # outcomes of a model at which the regression has half its share
_FEWEST_ROWS = 200
_MOST_ROWS = 20_000
_CHECKED_ROWS = 4_000
_BLOCK = 256  # queries at a time; bounds the memory that neighbours' outcomes take
_BELIEF = 50.0  # outcomes that count as much as the belief that predictions are right


class BlendPredictor:
    """The average of two predictions.

    Args:
        neighbours: the one.
        ridge: the other.
        share: (m,) how much the regression counts for each model.
    """

    def __init__(self, neighbours: NeighbourPredictor, ridge: Ridge, share: Floats) -> None:
        self._neighbours, self._ridge, self._share = neighbours, ridge, share

    def predict(
        self,
        queries: Sequence[str],
        embeddings: Floats32,
        neighbours: Neighbours,
        means: Means,
    ) -> Prediction:
        near = self._neighbours.predict(queries, embeddings, neighbours, means)
        line = self._ridge.predict(queries, embeddings)
        quality = (1 - self._share) * near.quality + self._share * line
        # Where the two disagree, at least one of them is wrong.
        apart = self._share * (line - near.quality)
        uncertainty = np.sqrt(near.uncertainty**2 + apart**2)
        return Prediction(quality, near.output_tokens, uncertainty)


@dataclass(frozen=True, slots=True)
class Backtest:
    """What would have been predicted for past queries, each left out, beside what came of them.

    Attributes:
        quality, output_tokens: (n, m) predictions.
        truth: (n, m) real quality; NaN where it is not known.
    """

    quality: Floats
    output_tokens: Floats
    truth: Floats

    def loss(self) -> float:
        """Mean squared error of quality over the known outcomes; infinite without any."""
        known = ~np.isnan(self.truth)
        if not known.any():
            return np.inf
        return float(((self.quality - self.truth)[known] ** 2).mean())

    def optimism(self, cost: Floats, requirement: float, models: npt.ArrayLike) -> float:
        """How much better than it turned out the predictions held what they would have chosen.

        Choosing by predictions favours those that are too high, so a batch that holds a
        requirement as predicted misses it in truth; aiming higher by this much holds it.

        Args:
            cost: (n, m) predicted costs, USD.
            requirement: the real mean quality wanted.
            models: columns of the candidates.
        """
        columns = np.asarray(models, np.int64)
        if not len(self.truth) or not columns.size:
            return 0.0
        quality, truth = self.quality[:, columns], self.truth[:, columns]
        optimism = 0.0
        # A fixed point: what to aim at depends on what the aim chooses; it settles in a few steps.
        for _ in range(8):
            aim = min(max(requirement + optimism, 0.0), 1.0)
            choice = assign(quality, cost[:, columns], aim).choice
            rows = np.arange(len(choice))
            error = quality[rows, choice] - truth[rows, choice]
            error = error[~np.isnan(error)]
            new = float(error.sum()) / (error.size + _BELIEF)
            if abs(new - optimism) < 5e-4:
                break
            optimism = (optimism + new) / 2
        return optimism


@dataclass(frozen=True, slots=True)
class Refit:
    """A fitted predictor, how it does on past queries, and how neighbours alone do.

    `queries` are the texts of the backtest's rows.
    """

    predictor: Predictor
    queries: Sequence[str]
    backtest: Backtest
    accepted: bool
    loss: float
    neighbours_loss: float


def refit(snapshot: Snapshot, prior: npt.ArrayLike, n_similar: int | None = None) -> Refit:
    """Fits on a snapshot; where the regression does not pay, the answer is neighbours alone.

    Takes seconds on 10,000 rows: run it beside the requests, and swap in the answer whole. Of more
    than 20,000 rows, an even sample is fitted on.

    Args:
        snapshot: past queries with their embeddings.
        prior: (m,) qualities to begin with.
        n_similar: neighbours to look at; grows with the snapshot where None.
    """
    random = np.random.default_rng(0)
    if len(snapshot) > _MOST_ROWS:
        snapshot = snapshot.part(np.sort(random.permutation(len(snapshot))[:_MOST_ROWS]))
    near = NeighbourPredictor(prior)
    rows = np.sort(random.permutation(len(snapshot))[:_CHECKED_ROWS])
    alone = _left_out(snapshot, rows, near, n_similar or default_n_similar(len(snapshot)))
    scored = ~np.isnan(snapshot.quality)
    checked = [snapshot.queries[row] for row in rows]
    if scored.any(axis=1).sum() < _FEWEST_ROWS:
        return Refit(near, checked, alone, False, alone.loss(), alone.loss())
    ridge, line = fit_ridge(snapshot)
    count = scored.sum(axis=0)
    share = _SHARE * count / (count + _CAUTION)
    quality = (1 - share) * alone.quality + share * line[rows]
    both = Backtest(quality, alone.output_tokens, alone.truth)
    if both.loss() >= alone.loss():
        return Refit(near, checked, alone, False, both.loss(), alone.loss())
    predictor = BlendPredictor(near, ridge, share)
    return Refit(predictor, checked, both, True, both.loss(), alone.loss())


def _left_out(
    snapshot: Snapshot, rows: npt.NDArray[np.intp], predictor: NeighbourPredictor, k: int
) -> Backtest:
    """Predicts `rows` from all rows but themselves."""
    means = snapshot.means()
    shape = (len(rows), snapshot.quality.shape[1])
    quality, tokens = np.zeros(shape), np.zeros(shape)
    for start in range(0, len(rows), _BLOCK):
        part = rows[start : start + _BLOCK]
        embeddings = snapshot.embeddings[part]
        ids, similarity = nearest(embeddings, snapshot.embeddings, k + 1)
        itself = ids == part[:, None]
        weight = np.where(itself[..., None], 0, snapshot.weight[ids])
        found = Neighbours(
            ids, similarity, snapshot.quality[ids], snapshot.output_tokens[ids], weight
        )
        guess = predictor.predict([], embeddings, found, means)
        at = slice(start, start + len(part))
        quality[at], tokens[at] = guess.quality, guess.output_tokens
    return Backtest(quality, tokens, snapshot.quality[rows].astype(np.float64))
