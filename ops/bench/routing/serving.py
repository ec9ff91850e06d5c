"""What the server's decider gives when it may have two models asked first: recorded requests, one
after the other, with the multiplier that follows them."""

from dataclasses import dataclass, replace

import numpy as np

from deployments.store.evidence import Integers, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from ops.bench.routing.data import Data, Split
from serve.routing.arrays import Floats
from serve.routing.cascade.deciding import CascadeDecider, Probing
from serve.routing.forecast.fitting import Refit
from serve.routing.prices import Price
from serve.routing.strategy import Question, Ranking

_CHARACTERS = 4  # of a token, as a decider without traffic takes it


@dataclass(frozen=True)
class Served:
    """What each requirement gave on all rows.

    Attributes:
        requirement, quality, cost: (r,) mean quality to hold, real quality, and real cost in USD,
            probes included.
        probed: (r,) the share of requests that were probed.
    """

    requirement: Floats
    quality: Floats
    cost: Floats
    probed: Floats


def served(data: Data, splits: list[Split], requirements: Floats, *, probes: bool) -> Served:
    """Fits on each split's train rows, and serves its test rows in a random order."""
    rows = sum(len(test) for _, test in splits)
    total = np.zeros((len(requirements), 3))
    for train, test in splits:
        snapshot = replace(data.snapshot(train), said=data.answers[train] + 1)
        fitted = _decider(data, snapshot).refit(snapshot)
        order = np.random.default_rng(0).permutation(test)
        for number, requirement in enumerate(requirements):
            decider = _decider(data, snapshot, fitted)
            for row in order:
                total[number] += _serve(decider, data, int(row), float(requirement), probes)
    quality, cost, probed = (total / rows).T
    return Served(requirements, quality, cost, probed)


def _decider(data: Data, snapshot: Snapshot, fitted: Refit | None = None) -> CascadeDecider:
    prices: dict[str, Price] = {str(model): price for model, price in enumerate(data.prices)}
    decider = CascadeDecider(SnapshotEvidence(snapshot), prices)
    if fitted is not None:
        decider.use(decider.forecaster(fitted=fitted))
    return decider


def _serve(
    decider: CascadeDecider, data: Data, row: int, requirement: float, probes: bool
) -> tuple[float, float, bool]:
    """Quality and cost of a request in USD, and whether it was probed."""
    question = Question(
        candidates=decider.models,
        available=decider.models,
        query=data.queries[row],
        characters=round(_CHARACTERS * data.input_tokens[row]),
        requirement=requirement,
    )
    question = decider.with_probes(question) if probes else question
    if name := decider.claim(question):
        decider.begin(question, decider.new_policy(name))
        decider.release(name)
    decide = decider.plan if probes else decider.decide
    plan: Ranking | Probing = decide(question, data.embeddings[row])
    if isinstance(plan, Ranking):
        model = int(plan.models[0])
        return float(data.score[row, model]), float(data.cost[row, model]), False
    said: Integers = data.answers[row, [int(name) for name in plan.models]]
    ranking = plan.settle(plan.models, bool(said[0] == said[1] >= 0))
    paid = {int(name) for name in (*plan.models, ranking.models[0])}
    quality = data.score[row, int(ranking.models[0])]
    return float(quality), float(data.cost[row, sorted(paid)].sum()), True
