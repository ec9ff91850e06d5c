"""Traffic on recorded outcomes, routed by the server's decider: what the store knows of it."""

from dataclasses import dataclass
from random import Random

import numpy as np

from deployments.store.evidence import Floats32, Integers, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from deployments.store.observations import Scored
from ops.bench.routing.data import Data
from serve.routing.arrays import Booleans, Floats
from serve.routing.decider import Decider
from serve.routing.forecast.fitting import Refit, fit_neighbours
from serve.routing.forecast.predictor import price_prior
from serve.routing.optimise.exploring import Explorer
from serve.routing.policies import policy_name
from serve.routing.replay import Replay, Requests
from serve.routing.shared_policies import SharedPolicies
from serve.routing.strategy import Question

EXPLORATION, N_SIMILAR = 0.01, 16  # the server's defaults
REQUESTS = 600
_EXCHANGE = 10  # requests between two exchanges with the shared policies
_HEIGHT = 0.7  # of the requirement, between the worst and the best model's quality


@dataclass(frozen=True)
class Kind:
    """What the store knows before the traffic, and what is learned of it.

    Attributes:
        models: how many there are; None is all of the data.
        history: number of past queries.
        known: the share of their outcomes that is known, at random.
        scored: the share of the traffic's answers that are scored.
    """

    models: int | None
    history: int
    known: float
    scored: float


KINDS = {
    "four models, a quarter known": Kind(4, 500, 0.25, 0.5),
    "four models, all scored": Kind(4, 500, 0.25, 1.0),
    "four models, hardly anything known": Kind(4, 150, 0.25, 0.5),
    "all models, all known": Kind(None, 1000, 1.0, 0.5),
}


@dataclass(frozen=True)
class Traffic:
    """A replay, the requirement that was held, and the truth: (n, m) scores and costs in USD."""

    replay: Replay
    requirement: float
    score: Floats
    cost: Floats


def traffic(data: Data, kind: Kind, seed: int) -> Traffic:
    """Routes random queries among random models."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(data.ids))
    history, asked = np.split(order[: kind.history + REQUESTS], [kind.history])
    many = data.score.shape[1]
    models = np.sort(random.choice(many, kind.models or many, replace=False))
    prices = [data.prices[model] for model in models]
    known = random.random((len(history), len(models))) < kind.known
    before = _snapshot(data, history, models, known, known)
    means = data.score[:, models].mean(axis=0)
    requirement = round(float(means.min() + _HEIGHT * np.ptp(means)), 2)
    scored = random.random(REQUESTS) < kind.scored
    chosen, propensity = _route(data, before, asked, models, requirement, scored, seed)
    at = np.arange(REQUESTS), models[chosen]
    answered = np.zeros((REQUESTS, len(models)), np.bool_)
    answered[np.arange(REQUESTS), chosen] = True
    after = _snapshot(
        data,
        order[: kind.history + REQUESTS],
        models,
        np.concatenate([known, answered & scored[:, None]]),
        np.concatenate([known, answered]),
    )
    score, cost = data.score[asked], data.cost[asked]
    requests = Requests(
        kind.history + np.arange(REQUESTS),
        chosen,
        propensity,
        np.where(scored, score[at], np.nan),
        cost[at],
    )
    tokens = data.input_tokens[order[: kind.history + REQUESTS]]
    replay = Replay(after, requests, tokens, prices, price_prior(prices), N_SIMILAR)
    return Traffic(replay, requirement, score[:, models], cost[:, models])


def _route(
    data: Data,
    before: Snapshot,
    asked: Integers,
    models: Integers,
    requirement: float,
    scored: Booleans,
    seed: int,
) -> tuple[Integers, Floats]:
    """(n,) each: columns of the chosen models, and the probabilities of these choices."""
    names = [str(model) for model in models]
    prices = {name: data.prices[model] for name, model in zip(names, models, strict=True)}
    decider = Decider(SnapshotEvidence(before), prices, n_similar=N_SIMILAR)
    near, past = fit_neighbours(before, np.arange(len(before)), decider.prior, N_SIMILAR)
    characters = np.array([len(query) for query in before.queries], np.float64)
    decider.use(decider.forecaster(fitted=Refit(near, characters, past, False, 0.0, 0.0)))
    decider.explorer = Explorer(EXPLORATION, Random(seed).random)
    shared = SharedPolicies()
    chosen, propensity = np.zeros(len(asked), np.int64), np.zeros(len(asked))
    first = Question(candidates=names, available=names, requirement=requirement)
    decider.begin(first, decider.new_policy(policy_name(requirement, names)))
    for number, row in enumerate(asked):
        query = data.queries[row]
        question = Question(
            candidates=names,
            available=names,
            query=query,
            characters=len(query),
            requirement=requirement,
        )
        ranking = decider.decide(question, data.embeddings[row])
        model = ranking.models[0]
        chosen[number], propensity[number] = names.index(model), ranking.propensity
        if scored[number]:
            answer = Scored(model, ranking.quality[model], ranking.policy, None)
            shared.correct(answer, float(data.score[row, models[chosen[number]]]))
        if number % _EXCHANGE == 0:
            decider.policies.merge(shared.exchange("router", decider.policies.report()))
    return chosen, propensity


def _snapshot(
    data: Data, rows: Integers, models: Integers, scored: Booleans, answered: Booleans
) -> Snapshot:
    def seen(values: Floats, known: Booleans) -> Floats32:
        part: Floats32 = np.where(known, values[np.ix_(rows, models)], np.nan).astype(np.float32)
        return part

    return Snapshot(
        [data.queries[row] for row in rows],
        data.embeddings[rows],
        seen(data.score, scored),
        seen(data.output_tokens, answered),
        answered.astype(np.float32),
    )
