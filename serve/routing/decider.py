"""Decides single requests and batches by forecast, as the shared actor of smart routing does.

Without Ray, SQL or HTTP; not thread-safe, except where a method says so.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deployments.store.evidence import Evidence, Floats32, Integers, Snapshot
from deployments.store.observations import Scored
from serve.routing.arrays import Booleans, Floats
from serve.routing.forecast.fitting import Refit
from serve.routing.forecast.forecaster import Forecaster
from serve.routing.forecast.predictor import Prediction
from serve.routing.optimise.floor import above_floor
from serve.routing.optimise.online import Policy
from serve.routing.optimise.problem import Assignment
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Question, Ranking

# Callers choose requirements and candidates, so the number kept is bounded; the least recently used
# goes first.
MAX_POLICIES = 200


class Impossible(ValueError):
    """A batch can't be decided as asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Routes:
    """A decided batch of n queries over m models.

    Attributes:
        models: names, in the order of every array's columns.
        allowed: (n, m) which models may answer which query.
        assignment: its `choice` are columns.
        prediction, cost: (n, m) each.
        near, similarity: (n, k) the store's numbers of the nearest past queries, and cosines.
        cold: whether no answer has been scored yet, so that qualities are guesses.
        past: texts of the nearest past queries, by number; None if they are not shown.
    """

    models: Sequence[str]
    allowed: Booleans
    assignment: Assignment
    prediction: Prediction
    cost: Floats
    near: Integers
    similarity: Floats32
    cold: bool
    past: Mapping[int, str] | None = None


class Decider:
    """Forecasts and policies over m models.

    Args:
        evidence: the past queries.
        prices: of each model, by name, in the order of the evidence's columns.
        priors: initial qualities, for models whose price is no guide.
        n_similar: the fewest past queries to predict from.
    """

    def __init__(
        self,
        evidence: Evidence,
        prices: Mapping[str, Price],
        priors: Mapping[str, float] | None = None,
        n_similar: int = 16,
    ) -> None:
        self._evidence = evidence
        self.models = list(prices)
        self._column = {model: column for column, model in enumerate(self.models)}
        own = [(priors or {}).get(model, np.nan) for model in self.models]
        self._forecaster = Forecaster(evidence, list(prices.values()), own, n_similar)
        self._policies: OrderedDict[str, Policy] = OrderedDict()
        self._outdated: set[str] = set()

    @property
    def cold(self) -> bool:
        """Whether no answer of any model has been scored yet."""
        return not len(self._evidence)

    def policy_name(self, question: Question) -> str:
        """Requests with the same requirement and candidates share a policy."""
        return json.dumps([round(question.requirement, 3), sorted(question.candidates)])

    def ready_for(self, question: Question) -> bool:
        """Whether `decide` has its policy, and so takes about a millisecond."""
        name = self.policy_name(question)
        return question.floor or (name in self._policies and name not in self._outdated)

    def new_policy(self, name: str) -> Policy:
        """A policy that starts with the multiplier of past queries. Takes tens of milliseconds
        and changes nothing, so it may run in another thread."""
        requirement, candidates = json.loads(name)
        return self._forecaster.start_policy(requirement, [self._column[m] for m in candidates])

    def begin(self, name: str, policy: Policy) -> None:
        """Takes a new policy. An existing one keeps its multiplier, which has followed the traffic;
        only its forecasts are replaced."""
        known = self._policies.get(name)
        self._outdated.discard(name)
        self._keep(name, replace(known, optimism=policy.optimism) if known else policy)

    def decide(self, question: Question, embedding: Floats32 | None) -> Ranking:
        """Ranks the available models for one request.

        Args:
            question: the request.
            embedding: (d,) of its query; None if it has no text.

        Raises:
            ValueError: a name is unknown, or no model is available.
        """
        allowed = self._allowed([question.available])[0]
        prediction = self._predict_one(question.query, embedding)
        quality = prediction.quality[0]
        tokens = question.characters / self._forecaster.characters_per_token
        cost = self._forecaster.costs([tokens], prediction)[0]
        if question.floor:
            name = None
            order = above_floor(quality, cost, question.requirement, allowed)
        else:
            name = self.policy_name(question)
            if not self.ready_for(question):
                self.begin(name, self.new_policy(name))
            order, policy = self._policies[name].decide(quality, cost, allowed)
            if self.models[order[0]] not in question.asleep:
                self._keep(name, policy)
        ranked = [self.models[column] for column in order.tolist()]
        return Ranking(
            ranked,
            self._reason(question, order, prediction, cost),
            dict(zip(ranked, quality[order].tolist(), strict=True)),
            dict(zip(ranked, cost[order].tolist(), strict=True)),
            name,
        )

    def correct(self, scored: Scored, score: float) -> None:
        """Corrects the policy that chose a model by the score of its answer."""
        policy = self._policies.get(scored.policy) if scored.policy else None
        if policy is not None and scored.policy is not None and scored.predicted is not None:
            self._policies[scored.policy] = policy.correct(scored.predicted, score, scored.replaced)

    def route(
        self, question: BatchQuestion, embeddings: Floats32, *, neighbours: int = 5
    ) -> Routes:
        """Decides a whole batch without moving any policy.

        Args:
            question: the batch, of n queries.
            embeddings: (n, d) of the queries.
            neighbours: how many past queries to name for each.

        Raises:
            Impossible: the capacities are too small for the batch, or a query has no candidate.
            ValueError: a model is unknown.
        """
        prediction = self._forecaster.predict(question.queries, embeddings)
        input_tokens = question.input_tokens
        if input_tokens is None:
            rate = self._forecaster.characters_per_token
            input_tokens = [len(query) / rate for query in question.queries]
        cost = self._forecaster.costs(input_tokens, prediction)
        allowed = self._allowed(question.candidates)
        if question.floor:
            assignment = self._by_floor(prediction.quality, cost, allowed, question.requirement)
        else:
            capacities = self._capacities(question.capacities)
            try:
                assignment = self._forecaster.assign(
                    prediction, cost, question.requirement, allowed, capacities
                )
            except ValueError as error:
                raise Impossible(str(error)) from error
        near = self._evidence.neighbours(embeddings, neighbours)
        return Routes(
            self.models,
            allowed,
            assignment,
            prediction,
            cost,
            near.ids[:, :neighbours],
            near.similarity[:, :neighbours],
            self.cold,
        )

    @property
    def tokens_per_character(self) -> float:
        """Of prompts, as estimated; may be set to a value above 0."""
        return 1 / self._forecaster.characters_per_token

    @tokens_per_character.setter
    def tokens_per_character(self, ratio: float) -> None:
        self._forecaster.characters_per_token = 1 / ratio

    @property
    def fitted(self) -> Refit:
        """The predictor in use."""
        return self._forecaster.fitted

    def refit(self, snapshot: Snapshot) -> Refit:
        """Fits a predictor. Takes seconds and changes nothing, so it may run in another thread."""
        return self._forecaster.refit(snapshot)

    def adopt(self, fitted: Refit, tokens_per_character: float | None = None) -> None:
        """Takes a newly fitted predictor; each policy moves to it before its next decision.

        Args:
            fitted: what `refit` gave, of this decider or of one with other prices.
            tokens_per_character: of past prompts; None if unknown.
        """
        if tokens_per_character:
            self.tokens_per_character = tokens_per_character
        self._forecaster.adopt(fitted)
        self._outdated = set(self._policies)

    def policies(self) -> dict[str, Any]:
        """All policies as plain numbers, to be stored over a restart."""
        return {name: policy.to_dict() for name, policy in self._policies.items()}

    def restore(self, policies: Mapping[str, Any]) -> None:
        """Restores what `policies` gave, except policies over models that no longer exist."""
        for name, state in policies.items():
            if set(json.loads(name)[1]) <= self._column.keys():
                self._keep(name, Policy.from_dict(state))

    def _predict_one(self, query: str, embedding: Floats32 | None) -> Prediction:
        if embedding is None:
            return self._forecaster.expect()
        return self._forecaster.predict([query], embedding[None])

    def _by_floor(
        self, quality: Floats, cost: Floats, allowed: Booleans, floor: float
    ) -> Assignment:
        rows = zip(quality, cost, allowed, strict=True)
        choice = np.array([above_floor(q, c, floor, may)[0] for q, c, may in rows], np.int64)
        at = np.arange(len(choice))
        total, mean = float(cost[at, choice].sum()), float(quality[at, choice].mean())
        under = np.maximum(floor - quality[at, choice], 0.0)
        return Assignment(choice, total, mean, 0.0, total, float(under.mean()))

    def _allowed(self, candidates: Sequence[Sequence[str]]) -> Booleans:
        """(n, m) whether a model is among a query's candidates."""
        allowed = np.zeros((len(candidates), len(self.models)), np.bool_)
        for row, names in enumerate(candidates):
            allowed[row, self._columns(names)] = True
        return allowed

    def _capacities(self, capacities: Mapping[str, float] | None) -> list[float] | None:
        """(m,) most queries of each model."""
        if capacities is None:
            return None
        return [capacities.get(model, np.inf) for model in self.models]

    def _columns(self, models: Sequence[str]) -> list[int]:
        try:
            return [self._column[model] for model in models]
        except KeyError as error:
            raise ValueError(f"smart routing has no model '{error.args[0]}'") from error

    def _keep(self, name: str, policy: Policy) -> None:
        self._policies[name] = policy
        self._policies.move_to_end(name)
        if len(self._policies) > MAX_POLICIES:
            self._outdated.discard(self._policies.popitem(last=False)[0])

    def _reason(
        self, question: Question, order: Integers, prediction: Prediction, cost: Floats
    ) -> str:
        """What was wanted, and what was predicted of the first two, in one line."""
        first_two = [
            f"{self.models[column]} {prediction.quality[0, column]:.2f}"
            f"+-{prediction.uncertainty[0, column]:.2f} for ${cost[column]:.2g}"
            for column in order[:2]
        ]
        wanted = f"{'floor' if question.floor else 'mean'} {question.requirement:g}"
        cold = "cold start, guessed from prices; " if self.cold else ""
        return f"{cold}{wanted} wanted; {', then '.join(first_two)}"
