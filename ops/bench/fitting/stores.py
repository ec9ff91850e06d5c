"""Synthetic stores of many kinds, and new queries whose outcomes are known exactly."""

from dataclasses import dataclass

import numpy as np

from deployments.store.evidence import Floats32, Integers, Snapshot
from ops.bench.routing.data import Data
from serve.routing.arrays import Floats
from serve.routing.prices import Price, costs, rates

_DIMENSIONS = 32
_NEW = 500


@dataclass(frozen=True)
class Kind:
    """A kind of store: what it differs in from the usual one.

    Attributes:
        rows: past queries.
        models: which can answer.
        topics: of queries; each model is better at some than at others.
        opposite: whether one half of the models is good at one half of the topics only, and the
            other half at the others.
        scatter: of a topic's embeddings; at 1, they are as far from its centre as topics are from
            one another.
        common: what all embeddings share; at 3, their cosines are around .9.
        known: the share of outcomes that are known.
        flipped: the share of scores that are wrong.
        lengths: the standard deviation of answers' log lengths, between topics and models.
        same_price: whether all models have one price, so that lengths alone decide their costs.
    """

    rows: int = 1000
    models: int = 8
    topics: int = 10
    opposite: bool = False
    scatter: float = 0.7
    common: float = 0.0
    known: float = 1.0
    flipped: float = 0.0
    lengths: float = 0.3
    same_price: bool = False


KINDS = {
    "usual: 1,000 rows, 8 models": Kind(),
    "50 rows": Kind(rows=50),
    "200 rows": Kind(rows=200),
    "2 models": Kind(models=2),
    "60 models": Kind(models=60),
    "60 models, 5 % of outcomes known": Kind(models=60, known=0.05),
    "one outcome in eight known": Kind(known=1 / 8),
    "30 % of scores wrong": Kind(flipped=0.3),
    "two clusters with opposite best models": Kind(topics=2, opposite=True),
    "lengths dominate costs": Kind(lengths=1.5, same_price=True),
    "embeddings all alike": Kind(common=3.0),
    "embeddings hardly alike": Kind(scatter=2.0),
    "embeddings say nothing": Kind(scatter=100.0),
}


def make(kind: Kind, seed: int) -> tuple[Snapshot, Data]:
    """The past queries of a store, and new ones with their chances, expected lengths and costs."""
    random = np.random.default_rng(seed)
    m, n = kind.models, kind.rows + _NEW
    topic = random.integers(kind.topics, size=n)
    embeddings = _embeddings(random, kind, topic)
    chance = 1 / (1 + np.exp(-_skill(random, kind)[topic]))
    tokens = 200 * np.exp(kind.lengths * random.normal(size=(kind.topics, m)))[topic]
    price = np.full(m, 1e-6) if kind.same_price else np.geomspace(1e-7, 1e-5, m)
    prices = [Price(0.0, float(one)) for one in price]
    queries = [f"query {number}" for number in range(n)]
    past, new = slice(0, kind.rows), slice(kind.rows, n)
    cost = costs(rates(prices), np.zeros(_NEW), tokens[new])
    data = Data(
        "",
        queries[new],
        np.zeros(_NEW, np.bool_),
        queries[new],
        embeddings[new],
        np.zeros(_NEW),
        chance[new],
        tokens[new],
        cost,
        prices,
        np.zeros((_NEW, 0), np.int64),
    )
    return _recorded(
        random, kind, queries[past], embeddings[past], chance[past], tokens[past]
    ), data


def _embeddings(random: np.random.Generator, kind: Kind, topic: Integers) -> Floats32:
    """(n, d) of length 1: each its topic's centre, and what it has of its own."""
    centres = random.normal(size=(kind.topics, _DIMENSIONS))
    own = random.normal(size=(len(topic), _DIMENSIONS))
    shared = random.normal(size=_DIMENSIONS)
    found = centres[topic] + kind.scatter * own
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    found += kind.common * shared / np.linalg.norm(shared)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    embeddings: Floats32 = found.astype(np.float32)
    return embeddings


def _skill(random: np.random.Generator, kind: Kind) -> Floats:
    """(topics, m) log odds of a right answer: more expensive models are better on average."""
    difficulty = random.normal(size=(kind.topics, 1))
    if not kind.opposite:
        affinity = random.normal(size=(kind.topics, kind.models))
        return difficulty + affinity + np.linspace(-0.5, 1.5, kind.models)
    halves = np.add.outer(np.arange(kind.topics), np.arange(kind.models)) % 2
    return np.where(halves, 2.0, -2.0) + np.linspace(-0.5, 0.5, kind.models)


def _recorded(
    random: np.random.Generator,
    kind: Kind,
    queries: list[str],
    embeddings: Floats32,
    chance: Floats,
    tokens: Floats,
) -> Snapshot:
    """What a store would know of these queries."""
    wrong = random.random(chance.shape) < kind.flipped
    quality = ((random.random(chance.shape) < chance) ^ wrong).astype(np.float32)
    lengths = (tokens * np.exp(random.normal(0, 0.3, tokens.shape))).astype(np.float32)
    known = random.random(chance.shape) < kind.known
    quality[~known], lengths[~known] = np.nan, np.nan
    return Snapshot(queries, embeddings, quality, lengths, known.astype(np.float32))
