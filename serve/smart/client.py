"""A router replica's access to the actor that decides for all of them."""

import logging
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import Any

from ray.actor import ActorHandle
from ray.serve.handle import DeploymentHandle

from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation
from serve.actors import ActorClient, ActorUnavailable
from serve.routing.decider import Impossible, Routes
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Question, Ranking

logger = logging.getLogger("ray.serve")

ACTOR_NAME = "decider"
# For a batch, or a durable write while the database is busy; most calls take a millisecond.
_TIMEOUT_S = 60.0
# A single request continues without the decider after this.
_DECISION_TIMEOUT_S = 1.0


class SharedDecider:
    """Typed calls to the actor's methods; each raises `ActorUnavailable` if the actor can't answer.

    Args:
        embedder: the deployment that embeds; the actor uses it for histories.
        identities: of the models, by name.
        priors: initial qualities of the models that are configured with one.
    """

    def __init__(
        self,
        embedder: DeploymentHandle[Any],
        identities: Mapping[str, str],
        priors: Mapping[str, float],
    ) -> None:
        self._models = identities, priors, embedder
        self._retired = False
        self._settings: tuple[dict[str, Price], int, str] = ({}, 1, "")
        self._actor = ActorClient(ACTOR_NAME, timeout_s=_TIMEOUT_S, found=self._configure)

    async def configure(self, prices: dict[str, Price], n_similar: int, server: str) -> None:
        """Passes new settings to the actor, now or as soon as there is one."""
        self._settings = prices, n_similar, server
        self._actor.forget()  # it is configured when it is found
        try:
            await self.status()
        except ActorUnavailable as error:
            logger.warning("smart routing starts without its store: %s", error)

    async def decide(self, question: Question, embedding: Floats32 | None) -> Ranking:
        """See `Decider.decide`."""
        # The prompt may be long, and only this process can probe.
        question = replace(question, chat=None, probe=None)
        ranking: Ranking = await self._actor.call(
            "decide", question, embedding, timeout_s=_DECISION_TIMEOUT_S
        )
        return ranking

    async def route(
        self, question: BatchQuestion, embeddings: Floats32, *, show_queries: bool
    ) -> Routes:
        """See `DeciderActor.route`.

        Raises:
            Impossible: the batch can't be decided as asked.
        """
        routes: Routes = await self._actor.call(
            "route", question, embeddings, show_queries, raises=(Impossible,)
        )
        return routes

    def learn(self, observation: Observation, answer: AnswerRecord) -> Awaitable[None]:
        """Sends what a model did, at once; awaiting the result waits until it is stored."""
        return self._actor.call("learn", observation, answer)

    async def feedback(self, id: str, score: float) -> bool:
        """Stores an answer's score; False if its id is unknown."""
        known: bool = await self._actor.call("feedback", id, score)
        return known

    async def status(self, timeout_s: float | None = None) -> dict[str, Any]:
        """The state of the store, for /health/ready."""
        status: dict[str, Any] = await self._actor.call("status", timeout_s=timeout_s)
        return status

    def retire(self) -> None:
        """Leaves it to others to tell the actor which models there are."""
        self._retired = True

    def _configure(self, handle: ActorHandle[Any]) -> None:
        if self._retired:
            return
        handle.configure.remote(*self._models, *self._settings)
