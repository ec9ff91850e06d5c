"""Fits a cascade on past queries: which probes pay, and what quality costs.

Everything is judged on past queries by a cascade that was fitted without them. If no probes pay
there, none are used, and the cascade chooses as it would without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist

import numpy as np

from serve.routing.arrays import Floats, Integers
from serve.routing.cascade.choosing import Cascade, Plan
from serve.routing.cascade.posterior import Pair, Past
from serve.routing.optimise.problem import check_requirement

_CANDIDATES = 10  # models; bounds the time
_CHEAP = 0.25  # of the best model's cost: two that cost half of it leave little to save
_MOST_PROBES = 3  # pairs; more gain little, and choosing among many favours those judged too well
_MULTIPLIERS = np.geomspace(0.3, 30.0, 8)  # in units of the best model's cost
_MISTAKE = 0.05  # the probability of probes where none pay
_FOLDS = 2
_BELIEF = 50.0  # past queries; the weight of the belief that predictions are unbiased
_REACH = 1e6  # beyond this many times the largest cost, or its inverse, no choice changes
_HALVINGS = 50


@dataclass(frozen=True, slots=True)
class FittedCascade:
    """A cascade, and how its like did on past queries.

    Attributes:
        cascade: fitted on all past queries.
        held_out: past queries, each part with a cascade that was fitted on the others.
    """

    cascade: Cascade
    held_out: Sequence[tuple[Past, Cascade]]

    def multiplier(self, requirement: float) -> float:
        """The least multiplier, USD for one unit of quality, that holds a mean quality on past
        queries; if none does, one so large that costs hardly matter.

        Raises:
            ValueError: the requirement is not between 0 and 1.
        """
        check_requirement(requirement)
        largest = max(float(past.cost.max(initial=0.0)) for past, _ in self.held_out)
        if largest <= 0 or self.quality(0.0) >= requirement:
            return 0.0
        low, high = np.log(largest / _REACH), np.log(largest * _REACH)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            if self.quality(float(np.exp(middle))) >= requirement:
                high = middle
            else:
                low = middle
        return float(np.exp(high))

    def arms(self, multiplier: float) -> tuple[Floats, Floats, Floats]:
        """(n, m + p) each, for m models that are asked alone and p pairs of probes on past queries:
        quality and cost in USD as expected, and real quality, NaN where that isn't known."""
        quality, cost, truth = [], [], []
        for past, cascade in self.held_out:
            arms = cascade.arms(past.quality, past.cost, multiplier)
            quality.append(arms.quality)
            cost.append(arms.cost)
            probed = [followed(past, plan)[0] for plan in arms.plans]
            truth.append(np.column_stack([past.truth, *probed]))
        return np.concatenate(quality), np.concatenate(cost), np.concatenate(truth)

    def quality(self, multiplier: float) -> float:
        """The mean quality that a multiplier gave on past queries; where it isn't known, what was
        expected."""
        expected, excess = [], []
        for past, cascade in self.held_out:
            plan = cascade.plan(past.quality, past.cost, multiplier)
            quality, _ = followed(past, plan)
            expected.append(plan.quality)
            excess.append(np.nan_to_num(quality - plan.quality))
        known = np.concatenate(excess)
        return float(np.concatenate(expected).mean() + known.sum() / (len(known) + _BELIEF))


def fit_cascade(past: Past) -> FittedCascade:
    """Fits on at least two past queries, with the probes among `past.agreement` that pay."""
    return fit_pairs(past, paying_pairs(past))


def fit_pairs(past: Past, pairs: Sequence[Pair]) -> FittedCascade:
    """Fits on at least two past queries, with these probes."""
    if not pairs:
        plain = Cascade.plain(past.cost.shape[1])
        return FittedCascade(plain, [(past, plain)])
    held_out = [(test, Cascade.fit(train, pairs)) for test, train in _splits(past)]
    return FittedCascade(Cascade.fit(past, pairs), held_out)


def paying_pairs(past: Past) -> list[Pair]:
    """Those among `past.agreement` that pay on at least two past queries."""
    return _paying(_splits(past), list(past.agreement), _multipliers(past))


def agreement_of(said: Integers, pair: Pair) -> Floats:
    """(n,) whether two models' answers agree, by the digests of m models' answers, (n, m); NaN
    where one isn't known, which 0 stands for."""
    first, second = said[:, pair[0]], said[:, pair[1]]
    return np.where((first != 0) & (second != 0), first == second, np.nan)


def candidate_pairs(cost: Floats, truth: Floats) -> list[Pair]:
    """The pairs of models worth trying as probes: the best of those that are cheap.

    Args:
        cost: (n, m) in USD, of past queries.
        truth: (n, m) real quality; NaN where unknown.
    """
    quality, price = _means(truth), cost.mean(axis=0)
    cheap = np.flatnonzero(price < _CHEAP * price[quality.argmax()])
    best = cheap[np.argsort(-quality[cheap], kind="stable")][:_CANDIDATES]
    return list(combinations(sorted(best.tolist()), 2))


def followed(past: Past, plan: Plan) -> tuple[Floats, Floats]:
    """(n,) the quality of a plan on past queries, and its cost in USD, as the probes' agreement
    turned out; NaN where that isn't known."""
    rows = np.arange(len(past))
    agreement = np.zeros(len(past))  # where one model is asked, it answers in either case
    for pair in map(tuple, np.unique(plan.probed[plan.probes], axis=0).tolist()):
        probed = (plan.probed == pair).all(axis=1)
        agreement[probed] = past.agreement[pair][probed]
    answer = plan.answers[rows, (agreement == 1).astype(np.int64)]
    first, second = plan.probed.T
    cost = past.cost[rows, first] + np.where(second != first, past.cost[rows, second], 0.0)
    cost += np.where((answer != first) & (answer != second), past.cost[rows, answer], 0.0)
    known = ~np.isnan(agreement)
    return np.where(known, past.truth[rows, answer], np.nan), np.where(known, cost, np.nan)


def _splits(past: Past) -> list[tuple[Past, Past]]:
    """Past queries to judge on, each part with the others to fit on."""
    fold = np.random.default_rng(0).permutation(len(past)) % _FOLDS
    return [(past.part(fold == number), past.part(fold != number)) for number in range(_FOLDS)]


def _multipliers(past: Past) -> Floats:
    """Multipliers between which costs and qualities matter, in USD."""
    best = _means(past.truth).argmax()
    return _MULTIPLIERS * float(past.cost[:, best].mean())


def _means(truth: Floats) -> Floats:
    """(m,) each model's mean quality; 0 where nothing is known."""
    known = ~np.isnan(truth)
    means: Floats = np.where(known, truth, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return means


def _paying(
    splits: Sequence[tuple[Past, Past]], pairs: Sequence[Pair], multipliers: Floats
) -> list[Pair]:
    """The pairs that gain most beside those before them, each by more than a standard error; the
    first by more than the best of as many worthless ones would with a probability of 5 %
    (Bonferroni's bound), so that nobody is probed by mistake.

    Args:
        splits: past queries to judge on, with others to fit on.
        pairs: to choose from.
        multipliers: (l,) at which to judge, in USD.
    """
    if not pairs:
        return []
    tried = {pair: _Trial.of(splits, [pair], multipliers) for pair in pairs}
    current, chosen = _Trial.of(splits, [], multipliers), list[Pair]()
    while tried and len(chosen) < _MOST_PROBES:
        beside = {pair: current.beside(trial) for pair, trial in tried.items()}
        best = max(beside, key=lambda pair: float(beside[pair].worth.mean()))
        gain = (beside[best].worth - current.worth).mean(axis=1)
        least = 1.0 if chosen else NormalDist().inv_cdf(1 - _MISTAKE / len(tried))
        if gain.mean() <= least * gain.std() / len(gain) ** 0.5:
            break
        current = beside[best]
        chosen.append(best)
        del tried[best]
    return chosen


@dataclass(frozen=True, slots=True)
class _Trial:
    """What plans were worth on n held-out queries at l multipliers, in units of quality.

    Attributes:
        value: (n, l) as expected, by which is chosen.
        worth: (n, l) in reality; as expected where that isn't known.
    """

    value: Floats
    worth: Floats

    @classmethod
    def of(
        cls, splits: Sequence[tuple[Past, Past]], pairs: Sequence[Pair], multipliers: Floats
    ) -> "_Trial":
        value, worth = [], []
        for test, train in splits:
            cascade = Cascade.fit(train, pairs)
            shape = len(test), len(multipliers)
            expected, real = np.zeros(shape), np.zeros(shape)
            for column, multiplier in enumerate(multipliers):
                plan = cascade.plan(test.quality, test.cost, float(multiplier))
                quality, cost = followed(test, plan)
                expected[:, column] = plan.value / multiplier
                real[:, column] = quality - cost / multiplier
            value.append(expected)
            worth.append(np.where(np.isnan(real), expected, real))
        return cls(np.concatenate(value), np.concatenate(worth))

    def beside(self, other: "_Trial") -> "_Trial":
        """With the plans of either, as expected to be better."""
        pick = other.value > self.value
        return _Trial(
            np.where(pick, other.value, self.value), np.where(pick, other.worth, self.worth)
        )
