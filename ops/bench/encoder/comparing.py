"""Routing by another embedding than the encoder's, and how it compares with smart routing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deployments.store.evidence import Floats32, Integers
from deployments.store.memory.snapshots import SnapshotEvidence
from ops.bench.routing.curves import RESAMPLES, outcomes, summary
from ops.bench.routing.data import Data, Split
from serve.routing.arrays import Floats
from serve.routing.forecast.fitting import blended, fit_neighbours
from serve.routing.forecast.predictor import price_prior

Figures = dict[str, float]

_BLOCK = 256  # queries at a time; bounds the memory for neighbours' outcomes


@dataclass(frozen=True)
class Learned:
    """What was learned from train rows (t,), for all n queries of the data.

    Attributes:
        embeddings: (n, d) by which neighbours are found, each of length 1.
        quality: (n, m) predicted by networks; that of a train row by one that hasn't seen the row.
        held: (h,) the train rows that the embeddings have not learned from, by their places in
            train. How neighbours are averaged, and the networks' shares, are chosen on these.
    """

    embeddings: Floats32
    quality: Floats
    held: Integers


@dataclass(frozen=True)
class Predicted:
    """Predicted quality and cost in USD of all queries, (n, m) each."""

    quality: Floats
    cost: Floats


def predicted(data: Data, learned: Learned, split: Split) -> tuple[Floats, Floats]:
    """Quality and cost in USD of a split's test rows, as smart routing predicts them."""
    train, test = split
    snapshot = replace(data, embeddings=learned.embeddings).snapshot(train)
    near, alone = fit_neighbours(snapshot, learned.held, price_prior(data.prices), 1)
    networks = learned.quality[train[learned.held]]
    shares, _ = blended(alone, networks, snapshot.means().count)
    evidence, k = SnapshotEvidence(snapshot), near.smoothing.n_similar(len(snapshot), 1)
    quality, cost = [], []
    for rows in np.array_split(test, len(test) // _BLOCK + 1):
        embeddings = learned.embeddings[rows]
        found = evidence.neighbours(embeddings, k)
        guess = near.predict([], embeddings, found, evidence.means())
        quality.append(shares.blend(guess.quality, learned.quality[rows]))
        cost.append(data.predicted_cost(rows, guess.output_tokens))
    return np.vstack(quality), np.vstack(cost)


def routed(data: Data, splits: Sequence[Split], learned: Iterable[Learned]) -> Predicted:
    """The predictions for the test rows of all splits, each by what was learned for it."""
    ours = Predicted(np.zeros(data.score.shape), np.zeros(data.score.shape))
    for split, one in zip(splits, learned, strict=True):
        ours.quality[split[1]], ours.cost[split[1]] = predicted(data, one, split)
    return ours


def compared(data: Data, ours: Predicted, other: Predicted) -> Figures:
    """How ours routes, and how it differs from another.

    Returns:
        `aiq` and `cr`; `aiq_change` and `cr_change`, by how much they exceed the other's, each with
        its standard error, `..._error`, by resampling the queries of both alike; `error`, the mean
        squared error of quality, and `difference_error`, that of the differences between models:
        of what remains of an error without the mean over the models.
    """
    n = len(data.ids)
    real = [outcomes(data, np.arange(n), one.quality, one.cost) for one in (ours, other)]
    mine, its = _summaries(data, real, np.full(n, 1 / n))
    found = {"aiq": mine["aiq"], "cr": mine["cr"]}
    shares = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    pairs = [_summaries(data, real, share) for share in shares]
    for key in ("aiq", "cr"):
        changes = [one[key] - two[key] for one, two in pairs if np.isfinite(one[key] + two[key])]
        found[f"{key}_change"] = mine[key] - its[key]
        found[f"{key}_change_error"] = float(np.std(changes)) if changes else np.nan
    error = ours.quality - data.score
    apart = error - error.mean(axis=1, keepdims=True)
    return found | {
        "error": float((error**2).mean()),
        "difference_error": float((apart**2).mean()),
    }


def _summaries(
    data: Data, real: Sequence[tuple[Floats, Floats]], share: Floats
) -> list[dict[str, float]]:
    """The summary of each of some `outcomes`, with queries that count by their shares (n,)."""
    alone = np.column_stack([share @ data.cost, share @ data.score])
    return [summary(np.column_stack([share @ cost, share @ score]), alone) for cost, score in real]
