"""Fits a predictor on past queries: neighbours blended with small neural networks.

Fitting leaves the predictor in use alone. `refit` returns the blend only if it predicts held-out
past queries better than neighbours alone, so a worse predictor is never swapped in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Floats32, Integers, Means, Neighbours, Snapshot
from deployments.store.memory.nearest import nearest
from serve.routing.arrays import Booleans, Floats
from serve.routing.forecast.choosing import BREADTHS, GRID, choose, losses
from serve.routing.forecast.mlp import MLP, fit_mlp
from serve.routing.forecast.predictor import (
    NeighbourPredictor,
    Prediction,
    Predictor,
    Smoothing,
    believed,
)
from serve.routing.optimise.batch import assign

_CAUTION = 200.0  # known outcomes of a model at which the networks get half their share
_FEWEST_ROWS = 200
_MOST_ROWS = 20_000
_CHECKED_ROWS = 4_000
_COMPARED_ROWS = 2_000  # for the choice of how neighbours are averaged
_FOLDS = 5
_BLOCK = 256  # queries at a time; bounds the memory for neighbours' outcomes
_BELIEF = 50.0  # outcomes; the weight of the prior belief that predictions are unbiased


@dataclass(frozen=True, slots=True)
class Shares:
    """The weights of the networks against the neighbours, 0 to 1.

    Attributes:
        level: for the quality common to all models.
        difference: for the differences between models.
        trust: (m,) a factor of both for each model, small if few of its outcomes are known.
    """

    level: float
    difference: float
    trust: Floats

    def blend(self, near: Floats, learned: Floats) -> Floats:
        """The blend of both predictions, each (b, m)."""
        level, difference = _apart(near, learned, self.trust)
        return np.clip(near + self.level * level + self.difference * difference, 0.0, 1.0)


class BlendPredictor:
    """A blend of two predictors.

    Args:
        neighbours: predicts from similar past queries.
        mlp: the fitted networks.
        shares: the weights of the networks.
    """

    def __init__(self, neighbours: NeighbourPredictor, mlp: MLP, shares: Shares) -> None:
        self.neighbours, self.mlp, self.shares = neighbours, mlp, shares
        self.smoothing = neighbours.smoothing

    def predict(
        self,
        queries: Sequence[str],
        embeddings: Floats32,
        neighbours: Neighbours,
        means: Means,
    ) -> Prediction:
        near = self.neighbours.predict(queries, embeddings, neighbours, means)
        quality = self.shares.blend(near.quality, self.mlp.predict(queries, embeddings))
        # Where the two disagree, at least one is wrong.
        uncertainty = np.hypot(near.uncertainty, quality - near.quality)
        return Prediction(quality, near.output_tokens, uncertainty)


@dataclass(frozen=True, slots=True)
class Backtest:
    """Held-out predictions for n past queries, and their real quality.

    Attributes:
        quality, output_tokens: (n, m) predicted without knowledge of the query itself.
        truth: (n, m) real quality; NaN where unknown.
        freshness: (n, m) how much the real quality counts, 0 to 1; None if nothing ages.
    """

    quality: Floats
    output_tokens: Floats
    truth: Floats
    freshness: Floats32 | None = None

    def part(self, rows: Booleans) -> "Backtest":
        """A backtest of these rows only."""
        fresh = None if self.freshness is None else self.freshness[rows]
        return Backtest(self.quality[rows], self.output_tokens[rows], self.truth[rows], fresh)

    def loss(self) -> float:
        """Mean squared error of quality over the known outcomes, as much as they count; infinite
        without any."""
        known = ~np.isnan(self.truth)
        weight = self.weight(known)
        if not known.any() or (weight is not None and not weight.any()):
            return np.inf
        return float(np.average((self.quality - self.truth)[known] ** 2, weights=weight))

    def weight(self, which: Booleans) -> Floats32 | None:
        """How much the outcomes `which` (n, m) count; None if all count the same."""
        return None if self.freshness is None else self.freshness[which]

    def optimism(self, cost: Floats, requirement: float, models: npt.ArrayLike) -> float:
        """By how much predictions exceed the real quality of the models they choose.

        Args:
            cost: (n, m) predicted costs in USD.
            requirement: the real mean quality to hold, 0 to 1.
            models: columns of the candidates.
        """
        columns = np.asarray(models, np.int64)
        parts = (self.quality[:, columns], cost[:, columns], self.truth[:, columns])
        fresh = None if self.freshness is None else self.freshness[:, columns]
        return optimism(*parts, requirement, fresh)


def optimism(
    quality: Floats,
    cost: Floats,
    truth: Floats,
    requirement: float,
    freshness: Floats32 | None = None,
) -> float:
    """By how much predictions exceed the real quality of what they choose.

    Choosing by predictions favours those that are too high, so a batch that meets a requirement as
    predicted falls short in reality. Aiming higher by this much meets it.

    Args:
        quality, cost: (n, c) predicted of c choices, 0 to 1 and USD.
        truth: (n, c) real quality; NaN where unknown.
        requirement: the real mean quality to hold, 0 to 1.
        freshness: (n, c) how much the real quality counts, 0 to 1; None if nothing ages.
    """
    if not truth.size:
        return 0.0
    found = 0.0
    # A fixed point, since the aim depends on what it chooses; it converges in a few steps.
    for _ in range(8):
        choice = assign(quality, cost, min(max(requirement + found, 0.0), 1.0)).choice
        rows = np.arange(len(choice))
        error = quality[rows, choice] - truth[rows, choice]
        known = ~np.isnan(error)
        weight = np.ones(len(rows)) if freshness is None else freshness[rows, choice]
        new = float((weight * error)[known].sum()) / (float(weight[known].sum()) + _BELIEF)
        if abs(new - found) < 5e-4:
            break
        found = (found + new) / 2
    return found


@dataclass(frozen=True, slots=True)
class Refit:
    """A fitted predictor and how well it does.

    Attributes:
        predictor: the blend if it was accepted, otherwise neighbours alone.
        characters: (n,) the lengths of the backtest's queries.
        backtest: of `predictor`.
        accepted: whether the blend does better than neighbours alone.
        loss, neighbours_loss: mean squared errors of the blend and of neighbours alone.
        pairs: the columns of each pair of models that may be probed.
        agreement: (n, p) whether the answers of each pair agree on the backtest's queries; NaN
            where that isn't known.
    """

    predictor: Predictor
    characters: Floats
    backtest: Backtest
    accepted: bool
    loss: float
    neighbours_loss: float
    pairs: Sequence[tuple[int, int]] = ()
    agreement: Floats | None = None


def refit(snapshot: Snapshot, prior: npt.ArrayLike, n_similar: int = 1) -> Refit:
    """Fits on a snapshot; if the networks don't improve predictions, uses neighbours alone.

    How neighbours are averaged and the networks' shares are chosen on the snapshot too. What the
    backtest predicts for a query was chosen without that query, on other folds of the rows.

    Takes about ten seconds for 10,000 rows, so run it in another thread and swap in the result. Of
    more than 20,000 rows, fits on a uniform sample that prefers rows with a score.

    Args:
        snapshot: past queries with their embeddings.
        prior: (m,) prior qualities, 0 to 1.
        n_similar: the fewest neighbours to look at.
    """
    kept, rows = _chosen_rows(snapshot)
    if len(kept) < len(snapshot):
        snapshot = snapshot.part(kept)
    scored = np.flatnonzero(~np.isnan(snapshot.quality).all(axis=1))
    enough = snapshot.counting.max(axis=1, initial=0.0).sum() >= _FEWEST_ROWS
    near, alone = fit_neighbours(snapshot, rows, prior, n_similar)
    checked = np.array([len(snapshot.queries[row]) for row in rows], np.float64)
    if not enough:
        return Refit(near, checked, alone, False, alone.loss(), alone.loss())
    mlp, learned = fit_mlp(snapshot.part(scored))
    learned = learned[np.searchsorted(scored, rows)]
    shares, both = blended(alone, learned, snapshot.means().count)
    if both.loss() >= alone.loss():
        return Refit(near, checked, alone, False, both.loss(), alone.loss())
    predictor = BlendPredictor(near, mlp, shares)
    return Refit(predictor, checked, both, True, both.loss(), alone.loss())


def backtest_rows(snapshot: Snapshot) -> npt.NDArray[np.intp]:
    """(n,) the rows of a snapshot that the backtest of its fit predicts, in that order."""
    kept, rows = _chosen_rows(snapshot)
    return kept[rows]


def _chosen_rows(snapshot: Snapshot) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The rows to fit on: all, or as many as can be fitted in reasonable time. And which of those
    to backtest."""
    random = np.random.default_rng(0)
    unscored = np.asarray(np.isnan(snapshot.quality).all(axis=1), np.bool_)
    kept = np.arange(len(snapshot))
    if len(snapshot) > _MOST_ROWS:
        order = random.permutation(len(snapshot))
        kept = np.sort(order[np.argsort(unscored[order], kind="stable")[:_MOST_ROWS]])
    scored = np.flatnonzero(~unscored[kept])
    candidates = scored if len(scored) >= _FEWEST_ROWS else np.arange(len(kept))
    return kept, np.sort(random.permutation(candidates)[:_CHECKED_ROWS])


def _shares(alone: Backtest, learned: Floats, count: Floats) -> Shares:
    """The shares that predict held-out rows best, shrunk half way to equal shares.

    Level and differences get separate shares: networks may know better how hard a query is, and
    neighbours which model can answer it. Source: Breiman, "Stacked regressions", Machine Learning
    24 (1996).
    """
    trust = count / (count + _CAUTION)
    known = ~np.isnan(alone.truth)
    apart = np.column_stack([part[known] for part in _apart(alone.quality, learned, trust)])
    missing = (alone.truth - alone.quality)[known]
    if (weight := alone.weight(known)) is not None:
        root = np.sqrt(weight)
        apart, missing = root[:, None] * apart, root * missing
    best = np.linalg.lstsq(apart, missing, rcond=None)[0]
    level, difference = (np.clip(best, 0.0, 1.0) + 0.5) / 2
    return Shares(float(level), float(difference), trust)


def _apart(near: Floats, learned: Floats, trust: Floats) -> tuple[Floats, Floats]:
    """The difference of two predictions (b, m): common to all models, and of each beyond that."""
    apart = learned - near
    level = (apart @ trust / trust.sum())[:, None]
    return trust * level, trust * (apart - level)


def blended(alone: Backtest, learned: Floats, count: Floats) -> tuple[Shares, Backtest]:
    """The networks' shares, and a backtest of the blend, each fold by the shares of the others.

    Args:
        alone: of the neighbours, on n past queries.
        learned: (n, m) what the networks predict for these, without knowledge of each query.
        count: (m,) known outcomes of each model; where scores age, as much as they are fresh.
    """
    quality = np.zeros_like(alone.quality)
    fold = _folds(len(quality))
    for number in range(_FOLDS):
        held = fold == number
        shares = _shares(alone.part(~held), learned[~held], count)
        quality[held] = shares.blend(alone.quality[held], learned[held])
    return _shares(alone, learned, count), replace(alone, quality=quality)


def _folds(rows: int) -> Integers:
    """(rows,) the fold of each row."""
    return np.arange(rows) % _FOLDS


def fit_neighbours(
    snapshot: Snapshot, rows: Integers, prior: npt.ArrayLike, n_similar: int
) -> tuple[NeighbourPredictor, Backtest]:
    """Chooses how neighbours are averaged.

    Args:
        snapshot: past queries with their embeddings.
        rows: the past queries to predict from all others, in any order but by quality.
        prior: (m,) prior qualities, 0 to 1.
        n_similar: the fewest neighbours to look at.

    Returns:
        The predictor, and its backtest on `rows`: each fold by the choice of the other folds.
    """
    means, fold = snapshot.means(), _folds(len(rows))
    others = _Others(snapshot, rows, n_similar)
    compared = np.arange(0, len(rows), 1 + (len(rows) > _COMPARED_ROWS))
    loss = others.losses(compared, believed(means, np.asarray(prior, np.float64))[0])
    truth = snapshot.quality[rows].astype(np.float64)
    quality, tokens = np.zeros_like(truth), np.zeros_like(truth)
    for number in range(_FOLDS):
        near = NeighbourPredictor(prior, choose(loss[:, fold[compared] != number]))
        for part in _blocks(np.flatnonzero(fold == number)):
            found, embeddings = others.neighbours(part, near.smoothing), others.embeddings[part]
            guess = near.predict([], embeddings, found, means)
            quality[part], tokens[part] = guess.quality, guess.output_tokens
    tested = Backtest(quality, tokens, truth, others.freshness)
    return NeighbourPredictor(prior, choose(loss)), tested


class _Others:
    """The neighbours of some rows among all except each itself.

    They are searched once, since each way of averaging weighs the same ones.
    """

    def __init__(self, snapshot: Snapshot, rows: Integers, n_similar: int) -> None:
        self._snapshot, self._rows, self._fewest = snapshot, rows, n_similar
        self.freshness = None if snapshot.freshness is None else snapshot.freshness[rows]
        self.embeddings = snapshot.embeddings[rows]
        most = max(map(self._found, GRID))
        self._ids, self._similarity = nearest(self.embeddings, snapshot.embeddings, most)
        # Infinitely far from itself, a row weighs nothing.
        self._similarity[self._ids == rows[:, None]] = -np.inf

    def neighbours(self, part: Integers, smoothing: Smoothing) -> Neighbours:
        """Those of a part of the rows that one way of averaging looks at."""
        k = self._found(smoothing)
        ids, similarity = self._ids[part, :k], self._similarity[part, :k]
        return Neighbours(ids, similarity, self._snapshot.outcomes(ids.ravel()))

    def losses(self, part: Integers, mean: Floats) -> Floats:
        """(g, b) of each way of averaging in `GRID`, for a part of the rows."""
        ranks = [self._found(Smoothing(breadth=breadth)) for breadth in BREADTHS]
        found = [np.zeros((len(GRID), 0))]
        for block in _blocks(part):
            near = self.neighbours(block, Smoothing(breadth=max(BREADTHS)))
            truth = self._snapshot.quality[self._rows[block]]
            fresh = None if self.freshness is None else self.freshness[block]
            found.append(losses(near, mean, truth, ranks, fresh))
        return np.hstack(found)

    def _found(self, smoothing: Smoothing) -> int:
        """How many are looked at, with the row itself."""
        return smoothing.n_similar(len(self._snapshot), self._fewest) + 1


def _blocks(rows: Integers) -> list[Integers]:
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]
