"""Decides single requests by forecast, with the policies of one router replica.

Without Ray, SQL or HTTP; not thread-safe, except where a method says so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from deployments.store.evidence import Evidence, Floats32, Integers, Snapshot
from deployments.store.observations import MeanLength
from serve.routing.arrays import Booleans, Floats
from serve.routing.batches import Routes, route
from serve.routing.claims import Claims
from serve.routing.forecast.fitting import Refit
from serve.routing.forecast.forecaster import Forecaster
from serve.routing.forecast.lengths import ShapeLengths
from serve.routing.forecast.predictor import Prediction
from serve.routing.optimise.exploring import Explorer, Pick
from serve.routing.optimise.floor import above_floor
from serve.routing.optimise.online import Policy
from serve.routing.policies import Policies, policy_name
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Preview, Question, Ranking
from serve.routing.tradeoff import Tradeoff, tradeoff


class Decider:
    """Forecasts and policies over m models.

    Args:
        evidence: the past queries.
        prices: of each model, by name, in the order of the evidence's columns.
        priors: initial qualities, for models whose price is no guide.
        n_similar: the fewest past queries to predict from.

    Attributes:
        models: names, in the order of every array's columns.
        policies: of single requests, to be exchanged with those of other routers.
        explorer: picks models of which too little is known; none until it has a share.
    """

    def __init__(
        self,
        evidence: Evidence,
        prices: Mapping[str, Price],
        priors: Mapping[str, float] | None = None,
        n_similar: int = 16,
    ) -> None:
        self.models = list(prices)
        self._column = {model: column for column, model in enumerate(self.models)}
        own = [(priors or {}).get(model, np.nan) for model in self.models]
        self._forecaster = Forecaster(evidence, list(prices.values()), own, n_similar)
        self.policies = Policies()
        self.explorer = Explorer(0.0)
        self._outdated: set[str] = set()
        self._claims = Claims()

    @property
    def cold(self) -> bool:
        """Whether no answer of any model has been scored yet."""
        return not len(self.evidence)

    @property
    def evidence(self) -> Evidence:
        """The past queries."""
        return self._forecaster.evidence

    @property
    def prior(self) -> Floats:
        """(m,) prior qualities."""
        return self._forecaster.prior

    def ready_for(self, question: Question) -> bool:
        """Whether `decide` has the policy that a question needs, with the forecasts in use."""
        name = policy_of(question)
        return question.floor or (name in self.policies and name not in self._outdated)

    def claim(self, question: Question) -> str | None:
        """The policy of a question, if the caller is to prepare it.

        It then passes the name to `new_policy` in another thread, the result to `begin`, and then
        always the name to `release`.

        Returns:
            The policy's name; None if it is ready, in preparation already, or has to wait for other
            preparations. Until it is there, `decide` does without.
        """
        name = policy_of(question)
        if self.ready_for(question) or not self._claims.take(name, question.owner):
            return None
        return name

    def release(self, name: str) -> None:
        """Ends a claim, whether or not the policy was prepared."""
        self._claims.release(name)

    def new_policy(self, name: str) -> Policy:
        """A policy that starts with the multiplier of past queries. Takes tens of milliseconds
        and changes nothing, so it may run in another thread."""
        requirement, candidates = json.loads(name)
        return self._forecaster.start_policy(requirement, [self._column[m] for m in candidates])

    def begin(self, question: Question, policy: Policy) -> None:
        """Takes a new policy for a question and others like it. An existing one, or that of other
        routers, keeps its multiplier, which has followed the traffic; only its forecasts are
        replaced."""
        name = policy_of(question)
        self._outdated.discard(name)
        self.policies.begin(name, question.owner, policy)

    def decide(self, question: Question, embedding: Floats32 | None) -> Ranking:
        """Ranks the available models for one request, in about a millisecond.

        A request whose policy hasn't begun holds the requirement by itself.

        Args:
            question: the request.
            embedding: (d,) of its query; None if it has no text.

        Raises:
            ValueError: a name is unknown, or no model is available.
        """
        return self._decided(question, *self._weighed(question, embedding))

    def preview(
        self, question: Question, embedding: Floats32 | None, *, neighbours: int = 0
    ) -> Preview:
        """What `decide` would do now; nothing moves.

        Args:
            question: the request.
            embedding: (d,) of its query; None if it has no text.
            neighbours: how many past queries to name; 0 for none.
        """
        allowed, prediction, cost = self._weighed(question, embedding)
        quality, multiplier, name = prediction.quality[0], None, None
        if question.floor:
            order = above_floor(quality, cost, question.requirement, allowed)
        else:
            policy = self._policy(name := policy_of(question))
            order, _ = policy.decide(quality, cost, allowed)
            multiplier = policy.weighs(quality, cost, allowed)
        ranking = self._ranking(question, order, prediction, cost, name)
        unsure = prediction.uncertainty[0, order].tolist()
        return Preview(
            ranking,
            multiplier,
            dict(zip(ranking.models, unsure, strict=True)),
            self._nearest(embedding, neighbours),
            cold=self.cold,
        )

    def route(
        self, question: BatchQuestion, embeddings: Floats32, *, neighbours: int = 5
    ) -> Routes:
        """Decides a whole batch without moving any policy. Other threads may use the decider
        meanwhile; the batch goes by what was known when it began.

        Args:
            question: the batch, of n queries.
            embeddings: (n, d) of the queries.
            neighbours: how many past queries to name for each; 0 for none.

        Raises:
            Impossible: see `batches.route`.
            ValueError: a model is unknown.
        """
        allowed = self._allowed(question.candidates)
        return route(
            self._forecaster, self.models, allowed, question, embeddings, neighbours=neighbours
        )

    def tradeoff(self, models: Sequence[str]) -> Tradeoff | None:
        """What each requirement would have cost on past queries with these models; None where none
        is known. Takes up to a second and changes nothing, so it may run in another thread."""
        past, cost = self._forecaster.past
        return tradeoff(past, cost, self._columns(models))

    @property
    def fitted(self) -> Refit:
        """The predictor in use."""
        return self._forecaster.fitted

    def refit(self, snapshot: Snapshot) -> Refit:
        """Fits a predictor. Takes seconds and changes nothing, so it may run in another thread."""
        return self._forecaster.refit(snapshot)

    def forecaster(
        self,
        *,
        evidence: Evidence | None = None,
        fitted: Refit | None = None,
        tokens_per_character: float | None = None,
        lengths: Sequence[MeanLength] | None = None,
    ) -> Forecaster:
        """What `use` takes. With many models it takes a while and changes nothing, so it may run in
        another thread.

        Args:
            evidence: other past queries of the same models.
            fitted: what `refit` gave, of this decider or of one with other prices.
            tokens_per_character: of past prompts, above 0.
            lengths: of answers of other shapes than text.
        """
        return self._forecaster.updated(
            evidence=evidence,
            fitted=fitted,
            characters_per_token=1 / tokens_per_character if tokens_per_character else None,
            lengths=None if lengths is None else ShapeLengths.of(lengths, self.models),
        )

    def use(self, forecaster: Forecaster) -> None:
        """Decides by it from now on. If it has another predictor, each policy moves to that as soon
        as a request asks for it."""
        if forecaster.fitted is not self.fitted:
            self._outdated = set(self.policies)
        self._forecaster = forecaster

    def _weighed(
        self, question: Question, embedding: Floats32 | None
    ) -> tuple[Booleans, Prediction, Floats]:
        """Which models may answer (m,), and what is predicted of them (1, m), with costs (m,)."""
        allowed = self._allowed([question.available])[0]
        prediction = self._predict_one(question.query, embedding)
        if (chat := question.chat) is not None:
            lengths = self._forecaster.lengths.predict(chat.shape, prediction.output_tokens)
            most = np.inf if chat.output_limit is None else chat.output_limit
            prediction = replace(prediction, output_tokens=np.minimum(lengths, most))
        tokens = question.characters / self._forecaster.characters_per_token
        return allowed, prediction, self._forecaster.costs([tokens], prediction)[0]

    def _decided(
        self, question: Question, allowed: Booleans, prediction: Prediction, cost: Floats
    ) -> Ranking:
        """The ranking by what is predicted."""
        quality = prediction.quality[0]
        if question.floor:
            order = above_floor(quality, cost, question.requirement, allowed)
            return self._ranking(question, order, prediction, cost)
        order, pick = self._chosen(question, quality, cost, allowed)
        return self._ranking(question, order, prediction, cost, policy_of(question), pick)

    def _chosen(
        self, question: Question, quality: Floats, cost: Floats, allowed: Booleans
    ) -> tuple[Integers, Pick]:
        """The order of what may be asked, and the pick that is its first; the policy moves by it.

        Columns beyond those of the models are no single models, and are not explored.
        """
        name, models = policy_of(question), len(self.models)
        policy = self._policy(name)
        order, moved = policy.decide(quality, cost, allowed)
        pick = Pick(int(order[0]))
        if pick.column < models:
            single = order[order < models]
            pick = self._pick(question, policy, single, quality[:models], cost[:models])
        if pick.column != order[0]:
            order, moved = policy.decide(quality, cost, allowed, first=pick.column)
        asleep = pick.column < models and self.models[pick.column] in question.asleep
        if name in self.policies and not asleep:
            self.policies.move(name, question.owner, moved)
        return order, pick

    def _pick(
        self,
        question: Question,
        policy: Policy,
        order: Integers,
        quality: Floats,
        cost: Floats,
    ) -> Pick:
        """The model to ask first: the best one, or one to be explored. None is explored while
        nobody tells how good answers are."""
        columns = order.tolist()
        best, multiplier = columns[0], policy.multiplier
        if not self.explorer.share or not policy.scores or multiplier is None:
            return Pick(best)
        if question.asleep:
            columns = [column for column in columns if self.models[column] not in question.asleep]
        if columns[:1] != [best] or len(columns) < 2:
            return Pick(best)
        return self.explorer.pick(columns, quality, cost, multiplier, self.evidence.means().count)

    def _policy(self, name: str) -> Policy:
        """The policy of this name, or one that knows of no other request."""
        return self.policies[name] if name in self.policies else Policy(json.loads(name)[0])

    def _ranking(
        self,
        question: Question,
        order: Integers,
        prediction: Prediction,
        cost: Floats,
        policy: str | None = None,
        pick: Pick | None = None,
    ) -> Ranking:
        ranked = [self.models[column] for column in order.tolist()]
        reason = self._reason(question, order, prediction, cost)
        explores = pick is not None and pick.explores
        return Ranking(
            ranked,
            f"asked to learn how good it is; {reason}" if explores else reason,
            dict(zip(ranked, prediction.quality[0, order].tolist(), strict=True)),
            dict(zip(ranked, cost[order].tolist(), strict=True)),
            policy,
            dict(zip(ranked, prediction.output_tokens[0, order].tolist(), strict=True)),
            [self.models[column] for column in order[self.evidence.means().count[order] == 0]],
            1.0 if pick is None else pick.propensity,
            explores,
        )

    def _predict_one(self, query: str, embedding: Floats32 | None) -> Prediction:
        if embedding is None:
            return self._forecaster.expect()
        return self._forecaster.predict([query], embedding[None])

    def _nearest(self, embedding: Floats32 | None, most: int) -> list[tuple[int, float]]:
        """The numbers of the nearest past queries, and cosines."""
        if embedding is None or not most:
            return []
        near = self.evidence.neighbours(embedding[None], most)
        nearest = zip(near.ids[0].tolist(), near.similarity[0].tolist(), strict=True)
        return [each for each in nearest if each[0] >= 0][:most]

    def _allowed(self, candidates: Sequence[Sequence[str]]) -> Booleans:
        """(n, m) whether a model is among a query's candidates."""
        allowed = np.zeros((len(candidates), len(self.models)), np.bool_)
        for row, names in enumerate(candidates):
            allowed[row, self._columns(names)] = True
        return allowed

    def _columns(self, models: Sequence[str]) -> list[int]:
        try:
            return [self._column[model] for model in models]
        except KeyError as error:
            raise ValueError(f"smart routing has no model '{error.args[0]}'") from error

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


def policy_of(question: Question) -> str:
    """The name of the policy that a question belongs to."""
    return policy_name(question.requirement, question.candidates)
