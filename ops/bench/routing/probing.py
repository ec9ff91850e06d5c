"""What probing gives on recorded answers: two cheap models first, a better one if they differ."""

from dataclasses import dataclass

import numpy as np

from deployments.store.evidence import Integers
from ops.bench.routing.curves import CLOSE, MULTIPLIERS
from ops.bench.routing.data import Data, Split
from ops.bench.routing.smart import Smart
from serve.routing.arrays import Booleans, Floats
from serve.routing.cascade.fitting import candidate_pairs, fit_cascade, followed
from serve.routing.cascade.posterior import Pair, Past


@dataclass(frozen=True)
class Probing:
    """What each of l multipliers really gave on all rows, (rows, l), and the pairs in use.

    Attributes:
        cost: in USD, probes included.
        score: of the answers that counted.
        probed: whether two models were asked first.
        pairs: of each split, the columns of the models that may be.
    """

    cost: Floats
    score: Floats
    probed: Booleans
    pairs: list[list[Pair]]

    def share(self, rows: Integers, best: float) -> float:
        """The share of queries probed at the first multiplier that comes close to a quality."""
        close = self.score[rows].mean(axis=0) >= best - CLOSE
        return float(self.probed[rows, int(close.argmax())].mean())


def probing(data: Data, splits: list[Split], smart: Smart) -> Probing:
    """Fits a cascade on the train rows of each split, as `smart` predicted them held out, and
    follows it on the test rows."""
    shape = len(data.ids), len(MULTIPLIERS)
    cost, score, probed = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.bool_)
    used = []
    for (_, test), (rows, quality, predicted) in zip(splits, smart.past, strict=True):
        pairs = candidate_pairs(predicted, data.score[rows])
        past = Past(quality, predicted, data.score[rows], _agreement(data, rows, pairs))
        cascade = fit_cascade(past).cascade
        used.append([probes.models for probes in cascade.probes])
        agreement = _agreement(data, test, used[-1])
        real = Past(smart.quality[test], data.cost[test], data.score[test], agreement)
        for column, multiplier in enumerate(MULTIPLIERS):
            plan = cascade.plan(smart.quality[test], smart.cost[test], float(multiplier))
            score[test, column], cost[test, column] = followed(real, plan)
            probed[test[plan.probes], column] = True
    return Probing(cost, score, probed, used)


def _agreement(data: Data, rows: Integers, pairs: list[Pair]) -> dict[Pair, Floats]:
    """Whether the recorded answers of each pair agree; a missing answer agrees with none."""
    answers = data.answers[rows]
    return {
        (a, b): ((answers[:, a] == answers[:, b]) & (answers[:, a] >= 0)).astype(np.float64)
        for a, b in pairs
    }
