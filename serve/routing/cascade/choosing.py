"""Chooses for each query whether to ask a model or to probe, and what to do after the probes.

With a multiplier λ (USD for one unit of quality), an answer is worth λ · quality − cost. Probing is
worth what the best step after it is worth, on average over agreement and disagreement, less the
probes' costs. A probe's own answer is not paid for twice. So one price decides whether to probe,
whom, and when to stop. The idea of a cascade: Chen, Zaharia and Zou, "FrugalGPT",
arXiv:2305.05176; agreement as its signal: Yue et al., "Large language model cascades with mixture
of thoughts representations", arXiv:2310.03094.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from serve.routing.arrays import Booleans, Floats, Integers
from serve.routing.cascade.posterior import Calibration, Pair, Past, Probes


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with each of n queries.

    Attributes:
        probed: (n, 2) the models that are asked first; twice the one that answers where there is
            no probing.
        answers: (n, 2) the model whose answer counts if these disagree, and if they agree.
        quality: (n,) expected quality, 0 to 1.
        cost: (n,) expected cost in USD.
        value: (n,) multiplier · quality − cost, in USD.
    """

    probed: Integers
    answers: Integers
    quality: Floats
    cost: Floats
    value: Floats

    @property
    def probes(self) -> Integers:
        """(p,) the queries with probes."""
        return np.flatnonzero(self.probed[:, 0] != self.probed[:, 1])

    def better(self, other: "Plan") -> "Plan":
        """For each query the one of higher value."""
        pick = other.value > self.value
        return Plan(
            np.where(pick[:, None], other.probed, self.probed),
            np.where(pick[:, None], other.answers, self.answers),
            np.where(pick, other.quality, self.quality),
            np.where(pick, other.cost, self.cost),
            np.where(pick, other.value, self.value),
        )


@dataclass(frozen=True, slots=True)
class Arms:
    """What to expect for n queries of m models that are asked alone, and of p pairs of probes.

    Attributes:
        quality, cost: (n, m + p), 0 to 1 and USD.
        plans: of each pair, as if all queries were probed.
    """

    quality: Floats
    cost: Floats
    plans: Sequence[Plan]


@dataclass(frozen=True, slots=True)
class Cascade:
    """Decides by what was fitted on past queries.

    Attributes:
        alone: corrects the predicted qualities of models that are asked alone.
        probes: the pairs that may be asked first; none if probing doesn't pay.
    """

    alone: Calibration
    probes: Sequence[Probes]

    @classmethod
    def fit(cls, past: Past, pairs: Sequence[Pair]) -> "Cascade":
        """Fits on past queries, for these pairs of probes."""
        alone = Calibration.fit(past.quality, past.truth)
        return cls(alone, [Probes.fit(past, pair) for pair in pairs])

    @classmethod
    def plain(cls, models: int) -> "Cascade":
        """Asks one of so many models, by the predictions as they are."""
        return cls(Calibration.none(models), [])

    def arms(
        self, quality: Floats, cost: Floats, multiplier: float, allowed: Booleans | None = None
    ) -> "Arms":
        """What to expect of asking each model alone, and of probing each pair.

        Args:
            quality: (n, m) predicted qualities, 0 to 1.
            cost: (n, m) predicted costs in USD.
            multiplier: USD for one unit of quality, finite; decides what follows the probes.
            allowed: (m,) which models may answer after probes; all if None.
        """
        after = cost if allowed is None else np.where(allowed, cost, np.inf)
        plans = [_probing(probes, quality, cost, multiplier, after) for probes in self.probes]
        return Arms(
            np.column_stack([self.alone.corrected(quality), *(plan.quality for plan in plans)]),
            np.column_stack([cost, *(plan.cost for plan in plans)]),
            plans,
        )

    def plan(self, quality: Floats, cost: Floats, multiplier: float) -> Plan:
        """The plan of the highest value.

        Args:
            quality: (n, m) predicted qualities, 0 to 1.
            cost: (n, m) predicted costs in USD.
            multiplier: USD for one unit of quality, finite.
        """
        plan = _asking(self.alone.corrected(quality), cost, multiplier)
        for probes in self.probes:
            plan = plan.better(_probing(probes, quality, cost, multiplier, cost))
        return plan


def _asking(quality: Floats, cost: Floats, multiplier: float) -> Plan:
    """The best single models."""
    rows, best = np.arange(len(cost)), _best(multiplier * quality - cost)
    twice = np.column_stack([best, best])
    return _plan(twice, twice, quality[rows, best], cost[rows, best], multiplier)


def _probing(
    probes: Probes, quality: Floats, cost: Floats, multiplier: float, after_probes: Floats
) -> Plan:
    """The best steps after these probes, where models cost so much; the probes' own answers are
    there already."""
    rows, models = np.arange(len(cost)), list(probes.models)
    further = after_probes.copy()
    further[:, models] = 0.0
    chance = probes.chance(quality)
    answers = np.zeros((len(cost), 2), np.int64)
    mean, paid = np.zeros(len(cost)), cost[:, models].sum(axis=1)
    for column, (after, share) in enumerate(((probes.apart, 1 - chance), (probes.agreed, chance))):
        known = after.corrected(quality)
        best = answers[:, column] = _best(multiplier * known - further)
        mean += share * known[rows, best]
        paid += share * further[rows, best]
    return _plan(np.tile(models, (len(cost), 1)), answers, mean, paid, multiplier)


def _plan(
    probed: Integers, answers: Integers, quality: Floats, cost: Floats, multiplier: float
) -> Plan:
    return Plan(probed, answers, quality, cost, multiplier * quality - cost)


def _best(value: Floats) -> Integers:
    best: Integers = value.argmax(axis=1)
    return best
