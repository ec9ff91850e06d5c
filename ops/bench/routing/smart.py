"""Smart routing's predictions and choices, made by the code that serves requests."""

import time
from dataclasses import dataclass

import numpy as np

from deployments.store.evidence import Integers
from deployments.store.memory.snapshots import SnapshotEvidence
from ops.bench.routing.data import Data, Split
from serve.routing.arrays import Floats
from serve.routing.forecast.fitting import backtest_rows, refit
from serve.routing.forecast.predictor import NeighbourPredictor, price_prior
from serve.routing.optimise.batch import assign
from serve.routing.optimise.online import Policy
from serve.routing.prices import costs, rates


@dataclass(frozen=True)
class Smart:
    """Smart routing's predictions, and its choices for each requirement.

    Attributes:
        quality: predicted quality (rows, models).
        neighbours: the same from neighbours alone, without the networks.
        cost: predicted cost in USD (rows, models).
        batch: the model chosen for each row as one batch (requirements, rows).
        online: the model chosen for each row as the rows come, likewise.
        accepted: whether every fit accepted the networks.
        seconds: the CPU time of all fits.
        past: of each split, train rows (n,), and their quality and cost in USD (n, m), predicted
            without knowledge of them.
    """

    quality: Floats
    neighbours: Floats
    cost: Floats
    batch: Integers
    online: Integers
    accepted: bool
    seconds: float
    past: list[tuple[Integers, Floats, Floats]]


def smart(data: Data, splits: list[Split], requirements: Floats) -> Smart:
    """Fits the train rows of each split, and decides its test rows."""
    shape = data.score.shape
    quality, near, cost = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    batch = np.zeros((len(requirements), shape[0]), np.int64)
    online = np.zeros_like(batch)
    all_models = np.ones(shape[1], np.bool_)
    seconds, accepted = 0.0, True
    past = []
    for train, test in splits:
        began = time.process_time()
        snapshot, prior = data.snapshot(train), price_prior(data.prices)
        fitted = refit(snapshot, prior)
        seconds += time.process_time() - began
        accepted &= fitted.accepted
        evidence, smoothing = SnapshotEvidence(snapshot), fitted.predictor.smoothing
        alone, k = NeighbourPredictor(prior, smoothing), smoothing.n_similar(len(snapshot), 1)
        for rows in np.array_split(test, len(test) // 256 + 1):
            found = evidence.neighbours(data.embeddings[rows], k)
            texts, embeddings = [data.queries[row] for row in rows], data.embeddings[rows]
            guess = fitted.predictor.predict(texts, embeddings, found, evidence.means())
            plain = alone.predict(texts, embeddings, found, evidence.means())
            quality[rows], near[rows] = guess.quality, plain.quality
            cost[rows] = data.predicted_cost(rows, guess.output_tokens)
        past_tokens = fitted.characters / 4
        past_cost = costs(rates(data.prices), past_tokens, fitted.backtest.output_tokens)
        past.append((train[backtest_rows(snapshot)], fitted.backtest.quality, past_cost))
        order = np.random.default_rng(0).permutation(test)
        for number, requirement in enumerate(requirements):
            optimism = fitted.backtest.optimism(past_cost, requirement, np.arange(shape[1]))
            aim = min(max(requirement + optimism, 0.0), 1.0)
            batch[number, test] = assign(quality[test], cost[test], aim).choice
            policy = Policy.started(requirement, fitted.backtest.quality, past_cost, optimism)
            for row in order:
                ranked, policy = policy.decide(quality[row], cost[row], all_models)
                online[number, row] = ranked[0]
    return Smart(quality, near, cost, batch, online, accepted, seconds, past)
