"""Decides single requests when two models may be asked first.

A pair of probes is one more thing to choose: the policy that holds a requirement weighs its
expected quality and cost as it weighs a model's. See `choosing` for what is expected.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from deployments.store.evidence import Floats32
from serve.routing.arrays import Booleans, Floats, Integers
from serve.routing.cascade.posterior import Pair, Probes
from serve.routing.decider import Decider, policy_of
from serve.routing.forecast.predictor import Prediction
from serve.routing.optimise.online import Policy
from serve.routing.strategy import Question, Ranking


@dataclass(frozen=True, slots=True)
class Probing:
    """Two models to ask first, and what is to be weighed when they have answered.

    Attributes:
        decider: that decided this.
        question: the request.
        probes: the two, and what their agreement tells.
        allowed: (m,) which models may answer.
        prediction: (1, m).
        cost: (m,) predicted, in USD.
        multiplier: USD that a unit of quality is worth.
    """

    decider: "CascadeDecider"
    question: Question
    probes: Probes
    allowed: Booleans
    prediction: Prediction
    cost: Floats
    multiplier: float

    @property
    def models(self) -> tuple[str, str]:
        """The names of the two."""
        first, second = self.probes.models
        return self.decider.models[first], self.decider.models[second]

    def settle(self, answered: Collection[str], agree: bool) -> Ranking:
        """What to do after the probes.

        Args:
            answered: which of the two have answered; the other one failed.
            agree: whether both say the same.
        """
        return self.decider.settle(self, answered, agree)


class CascadeDecider(Decider):
    """A `Decider` that may have two models asked first."""

    def with_probes(self, question: Question) -> Question:
        """The question with those pairs among its candidates that may be probed. Its policy is
        another one, since it is cheaper to hold a requirement with them."""
        candidates = question.candidates
        pairs = [] if question.floor else [self._name(pair) for pair in self._pairs(candidates)]
        return replace(question, candidates=[*candidates, *pairs]) if pairs else question

    def plan(self, question: Question, embedding: Floats32 | None) -> Ranking | Probing:
        """What to do first, in about a millisecond: ask one of the available models, or two.

        Args:
            question: the request, from `with_probes`.
            embedding: (d,) of its query; None if it has no text.

        Raises:
            ValueError: a name is unknown, or no model is available.
        """
        allowed, prediction, cost = self._weighed(question, embedding)
        multiplier = self._policy(policy_of(question)).multiplier
        awake = [name for name in question.available if name not in question.asleep]
        pairs = self._pairs(awake)
        cascade = self._forecaster.cascade
        if cascade is None or not pairs or multiplier is None or question.floor:
            return self._decided(question, allowed, prediction, cost)
        arms = cascade.arms(prediction.quality, cost[None], multiplier, self._allowed([awake])[0])
        usable = np.array([probes.models in pairs for probes in cascade.probes])
        order, pick = self._chosen(
            question, arms.quality[0], arms.cost[0], np.concatenate([allowed, usable])
        )
        if (pair := pick.column - len(self.models)) >= 0:
            probes = cascade.probes[pair]
            return Probing(self, question, probes, allowed, prediction, cost, multiplier)
        models = order[order < len(self.models)]
        known = replace(prediction, quality=arms.quality[:, : len(self.models)])
        return self._ranking(question, models, known, cost, policy_of(question), pick)

    def settle(self, probing: Probing, answered: Collection[str], agree: bool) -> Ranking:
        """Ranks the models when those of a plan have been asked; see `Probing.settle`."""
        quality = self._known(probing, both=len(answered) == 2, agree=agree)
        prediction = replace(probing.prediction, quality=quality)
        order = self._order(probing, quality[0], answered)
        policy = policy_of(probing.question)
        ranking = self._ranking(probing.question, order, prediction, probing.cost, policy)
        first, probed = ranking.models[0], " and ".join(probing.models)
        verb = "agree" if agree else "differ" if len(answered) == 2 else "did not both answer"
        return replace(
            ranking,
            reason=f"{probed} {verb}; {ranking.reason}",
            answered=first in answered,
            spent=sum(ranking.cost[name] for name in answered if name != first),
        )

    def new_policy(self, name: str) -> Policy:
        """As for a `Decider`; pairs that it no longer pays to probe are left out."""
        requirement, candidates = json.loads(name)
        at = self._column | {
            self._name(pair): len(self.models) + number
            for number, pair in enumerate(self._all_pairs())
        }
        columns = [at[candidate] for candidate in candidates if candidate in at]
        return self._forecaster.start_policy(requirement, columns)

    def _known(self, probing: Probing, *, both: bool, agree: bool) -> Floats:
        """(1, m) qualities, by what the probes have told."""
        if both:
            after = probing.probes.agreed if agree else probing.probes.apart
            return after.corrected(probing.prediction.quality)
        cascade = self._forecaster.cascade
        quality = probing.prediction.quality
        return quality if cascade is None else cascade.alone.corrected(quality)

    def _order(self, probing: Probing, quality: Floats, answered: Collection[str]) -> Integers:
        """The columns of the allowed models, best first. Answers that are there cost nothing more;
        a model that has just failed comes last, and one that is scaled to zero before it."""
        further, last = probing.cost.copy(), np.zeros(len(quality), np.int64)
        further[self._columns(list(answered))] = 0.0
        last[self._columns(probing.question.asleep)] = 1
        last[self._columns([name for name in probing.models if name not in answered])] = 2
        allowed = np.flatnonzero(probing.allowed)
        price = further - probing.multiplier * quality
        order: Integers = allowed[np.lexsort((price[allowed], last[allowed]))]
        return order

    def _all_pairs(self) -> list[Pair]:
        cascade = self._forecaster.cascade
        return [] if cascade is None else [probes.models for probes in cascade.probes]

    def _pairs(self, names: Collection[str]) -> list[Pair]:
        """The pairs of which both models are among these."""
        return [pair for pair in self._all_pairs() if {self.models[at] for at in pair} <= {*names}]

    def _name(self, pair: Pair) -> str:
        """A name for a pair, which no model can have."""
        return "\n".join(self.models[column] for column in pair)
