"""Requests in which a new model is only scored when it is chosen, or explored."""

from dataclasses import dataclass

import numpy as np

from deployments.store.evidence import Floats32, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from ops.bench.exploring.fleets import Newcomer, hidden
from serve.routing.arrays import Booleans, Floats
from serve.routing.decider import Decider
from serve.routing.forecast.fitting import Refit
from serve.routing.optimise.exploring import Explorer
from serve.routing.strategy import Question

_REQUESTS = 4000
_COPIED = 50  # requests between two copies of the store
_WAY = 0.8  # of the requirement, from the cheapest other model's quality to the best one's


@dataclass(frozen=True)
class Stream:
    """What happened.

    Attributes:
        asked: (r,) whether each request went to the new model.
        explored: (r,) whether that was to learn how good it is.
        score: (r,) of the answers.
        cost: (r,) of the answers, in USD.
    """

    asked: Booleans
    explored: Booleans
    score: Floats
    cost: Floats


class Streams:
    """The same requests, whatever is explored. All scores arrive; the predictor is fitted once,
    before the first request.

    Args:
        newcomer: whose outcomes on past queries nobody knows.
    """

    def __init__(self, newcomer: Newcomer) -> None:
        self._of = newcomer
        data, past = newcomer.data, newcomer.past
        self._rows = newcomer.later[:_REQUESTS]
        nothing = np.zeros(0, np.int64)
        self._known = {
            True: data.snapshot(past),
            False: hidden(data.snapshot(past), newcomer.model, nothing),
        }
        others = np.delete(np.arange(len(data.prices)), newcomer.model)
        alone = data.score[np.ix_(past, others)].mean(axis=0)
        low = alone[data.cost[np.ix_(past, others)].mean(axis=0).argmin()]
        self._requirement = float(low + _WAY * (alone.max() - low))
        self._fits: dict[bool, Refit] = {}

    def run(self, share: float, *, known: bool = False, without: bool = False) -> Stream:
        """All requests.

        Args:
            share: of the spend, for exploration.
            known: whether the new model's outcomes on past queries are known after all.
            without: whether the new model isn't there.
        """
        data, new = self._of.data, self._of.model
        history = self._known[known]
        names = [str(column) for column in range(len(data.prices))]
        prices = dict(zip(names, data.prices, strict=True))
        decider = Decider(SnapshotEvidence(history), prices)
        if known not in self._fits:
            self._fits[known] = decider.refit(history)
        decider.use(decider.forecaster(fitted=self._fits[known]))
        decider.explorer = Explorer(share, np.random.default_rng(0).random)
        available = [name for name in names if not (without and name == str(new))]
        n, m = len(self._rows), len(names)
        quality, tokens = np.full((2, n, m), np.nan, np.float32)
        chosen, explored = np.zeros(n, np.int64), np.zeros(n, np.bool_)
        for number, row in enumerate(self._rows):
            if number and number % _COPIED == 0:
                evidence = SnapshotEvidence(
                    _longer(history, data.embeddings[self._rows], quality, tokens, number)
                )
                decider.use(decider.forecaster(evidence=evidence))
            question = Question(
                candidates=available,
                available=available,
                query=data.queries[row],
                characters=round(4 * data.input_tokens[row]),
                requirement=self._requirement,
            )
            if not decider.ready_for(question) and (name := decider.claim(question)):
                decider.begin(question, decider.new_policy(name))
                decider.release(name)
            ranking = decider.decide(question, data.embeddings[row])
            column = int(ranking.models[0])
            chosen[number], explored[number] = column, ranking.explores
            score = data.score[row, column]
            quality[number, column] = score
            tokens[number, column] = data.output_tokens[row, column]
            assert ranking.policy is not None
            policy = decider.policies[ranking.policy]
            corrected = policy.correct(ranking.quality[ranking.models[0]], float(score))
            decider.policies.move(ranking.policy, None, corrected)
        return Stream(
            chosen == new, explored, data.score[self._rows, chosen], data.cost[self._rows, chosen]
        )


def _longer(
    history: Snapshot, embeddings: Floats32, quality: Floats32, tokens: Floats32, rows: int
) -> Snapshot:
    """The history with what was chosen in the first rows of the requests."""
    return Snapshot(
        [*history.queries, *[""] * rows],
        np.vstack([history.embeddings, embeddings[:rows]]),
        np.vstack([history.quality, quality[:rows]]),
        np.vstack([history.output_tokens, tokens[:rows]]),
        np.vstack([history.weight, (~np.isnan(quality[:rows])).astype(np.float32)]),
    )
