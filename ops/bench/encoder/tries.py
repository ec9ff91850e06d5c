"""The ways to embed queries that are tried."""

from collections.abc import Callable

import numpy as np

from deployments.store.evidence import Floats32, Integers
from ops.bench.encoder.comparing import Learned
from ops.bench.encoder.linear import linear_map
from ops.bench.routing.data import Data
from serve.routing.arrays import Floats
from serve.routing.forecast.features import text_features
from serve.routing.forecast.fitting import backtest_rows
from serve.routing.forecast.mlp import fit_mlp

# From data, train rows and the networks' predictions (n, m), as in `Learned`.
Try = Callable[[Data, Integers, Floats], Learned]

_HELD = 5  # one train row of so many is not learned from


def networks(data: Data, train: Integers) -> Floats:
    """(n, m) qualities that networks predict, of train rows by one that hasn't seen the row."""
    mlp, held_out = fit_mlp(data.snapshot(train))
    quality = mlp.predict(data.queries, data.embeddings)
    quality[train] = held_out
    return quality


def as_it_is(data: Data, train: Integers, quality: Floats) -> Learned:
    """Smart routing with the encoder's own embeddings."""
    return Learned(data.embeddings, quality, backtest_rows(data.snapshot(train)))


def beside(found: Callable[[Data], Floats | Floats32], weight: float) -> Try:
    """Features (n, d) of the queries beside the embedding."""

    def learn(data: Data, train: Integers, quality: Floats) -> Learned:
        features = unit(_standardised(found(data), train))
        embeddings = unit(np.hstack([data.embeddings, weight * features]))
        return Learned(embeddings, quality, backtest_rows(data.snapshot(train)))

    return learn


def with_networks(weight: float) -> Try:
    """The differences between models that the networks predict beside the embedding."""

    def learn(data: Data, train: Integers, quality: Floats) -> Learned:
        apart = deviations(quality, train)
        apart /= np.sqrt((apart[train] ** 2).sum(axis=1).mean())
        embeddings = unit(np.hstack([data.embeddings, weight * apart]))
        return Learned(embeddings, quality, backtest_rows(data.snapshot(train)))

    return learn


def mapped(dimensions: int) -> Try:
    """A linear map of the embedding, trained by the neighbours' own error."""

    def learn(data: Data, train: Integers, quality: Floats) -> Learned:
        held = held_rows(len(train))
        truth = deviations(data.score, train)[train]
        matrix = linear_map(data.embeddings[train], truth, held, dimensions)
        return Learned(unit(data.embeddings @ matrix), quality, held)

    return learn


TRIES: dict[str, Try] = {
    "smart": as_it_is,
    "text features beside the embedding": beside(lambda data: text_features(data.queries), 0.5),
    "networks' predictions beside it": with_networks(1.0),
    "linear map, 384 dimensions": mapped(384),
    "linear map, 64 dimensions": mapped(64),
}


def of_served_model(data: Data) -> dict[str, Try]:
    """What a served model makes of the queries beside the embedding; computed at once."""
    from ops.bench.encoder.served import hidden_states

    states = hidden_states(data.queries)
    return {"a served model's states beside it": beside(lambda _: states, 0.5)}


def fine_tuned(data: Data) -> dict[str, Try]:
    """The encoder with its upper layers trained on the train rows, for data whose lower layers'
    states are computed at once."""
    from ops.bench.encoder.tuning import lower_states, tuned

    states = lower_states(data.queries)

    def learn(data: Data, train: Integers, quality: Floats) -> Learned:
        held = held_rows(len(train))
        truth = deviations(data.score, train)[train]
        known = [states[row] for row in train]
        upper = tuned(known, data.embeddings[train], data.score[train], truth, held)
        embeddings, head = upper.predict(states)
        return Learned(embeddings, (quality + head) / 2, held)

    return {"last two layers trained": learn}


def held_rows(rows: int) -> Integers:
    """A fifth of the rows, at random, in order."""
    return np.sort(np.random.default_rng(1).permutation(rows)[: rows // _HELD])


def deviations(quality: Floats, train: Integers) -> Floats:
    """(n, m) by how much a model does better on a query than all models, and than it usually does:
    without the means of each query, and without those of each model over train."""
    apart = quality - quality.mean(axis=1, keepdims=True)
    centred: Floats = apart - apart[train].mean(axis=0)
    return centred


def unit(vectors: Floats | Floats32) -> Floats32:
    """The same with length 1."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats32 = (vectors / np.maximum(length, 1e-12)).astype(np.float32)
    return found


def _standardised(values: Floats | Floats32, train: Integers) -> Floats:
    part = values[train]
    scaled: Floats = (values - part.mean(axis=0)) / (part.std(axis=0) + 1e-6)
    return scaled
