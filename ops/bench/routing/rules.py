"""The rules that smart routing is compared with.

Each predicts the quality and cost of `test` rows from `train` rows alone.
"""

from collections.abc import Callable

import numpy as np

from deployments.store.evidence import Integers
from deployments.store.memory.nearest import nearest
from ops.bench.routing.data import Data, Split
from serve.routing.arrays import Floats

Rule = Callable[[Data, Integers, Integers], tuple[Floats, Floats]]


def few_neighbours(k: int) -> Rule:
    """Predicts the unweighted means of the k nearest neighbours."""

    def rule(data: Data, train: Integers, test: Integers) -> tuple[Floats, Floats]:
        ids, _ = nearest(data.embeddings[test], data.embeddings[train], k)
        near = train[ids]
        tokens = data.output_tokens[near].mean(axis=1)
        return data.score[near].mean(axis=1), data.predicted_cost(test, tokens)

    return rule


def oracle(data: Data, train: Integers, test: Integers) -> tuple[Floats, Floats]:
    """Predicts the recorded outcomes themselves."""
    return data.score[test], data.cost[test]


def threshold_choice(quality: Floats, cost: Floats, requirement: float) -> Integers:
    """AIOS's rule: the cheapest model of at least this predicted quality, or else the best one."""
    enough = quality >= requirement
    cheapest = np.where(enough, cost, np.inf).argmin(axis=1)
    return np.where(enough.any(axis=1), cheapest, quality.argmax(axis=1))


def pooled(data: Data, splits: list[Split], rule: Rule) -> tuple[Floats, Floats]:
    """A rule's predictions for the test rows of all splits."""
    quality, cost = np.zeros(data.score.shape), np.zeros(data.score.shape)
    for train, test in splits:
        quality[test], cost[test] = rule(data, train, test)
    return quality, cost
