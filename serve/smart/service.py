"""Smart routing in a router replica: its embedder, decider and learner, put together."""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from deployments.config import ModelConfig
from deployments.embedding.cache import CachedEmbedder
from deployments.errors import InvalidRequest, ModelUnavailable
from deployments.store.evidence import Floats32
from deployments.store.observations import MAX_QUERY_CHARACTERS
from serve.actors import ActorUnavailable
from serve.config import RouterConfig
from serve.routing.decider import Impossible, Routes
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Question, Ranking
from serve.smart.client import SharedDecider
from serve.smart.learning import Learner
from serve.smart.server_name import server_name

logger = logging.getLogger("ray.serve")

# An embedding takes milliseconds; after this a request continues without it.
_EMBEDDING_TIMEOUT_S = 2.0
_PAUSE_S = 5.0  # without embeddings after the embedder failed
_BATCH_TIMEOUT_S = 120.0
_STATUS_PERIOD_S = 1.0


class Smart:
    """Smart routing as a router replica sees it."""

    def __init__(self, models: Mapping[str, ModelConfig], embedder: DeploymentHandle[Any]) -> None:
        self._embedder = CachedEmbedder(embedder.remote)
        self._not_before = 0.0
        self.priors = {name: model.prior_quality for name, model in models.items()}
        identities = {name: model.identity for name, model in models.items()}
        priors = {name: prior for name, prior in self.priors.items() if prior is not None}
        self._decider = SharedDecider(embedder, identities, priors)
        self.learner = Learner(self._decider, identities)
        self._status: dict[str, Any] = {}
        self._asked = -inf
        self._asking = asyncio.Lock()

    async def configure(self, router: RouterConfig, prices: dict[str, Price]) -> None:
        """Applies new settings, and the prices of all models."""
        self._router = router
        server = await asyncio.to_thread(server_name)
        await self._decider.configure(prices, router.n_similar, server)

    def retire(self) -> None:
        """Lets answers in progress be learned, and no longer says which models there are."""
        self._decider.retire()

    def embedding(self, query: str) -> "asyncio.Task[Floats32 | None]":
        """Starts embedding a query; the result is None if it has no text or the embedder fails."""
        return asyncio.create_task(self._embedding(query))

    async def decide(self, question: Question) -> Ranking:
        """Ranks the available models for one request.

        Raises:
            ActorUnavailable: the decider can't answer.
        """
        return await self._decider.decide(question, await self._embedding(question.query))

    async def feedback(self, id: str, score: float) -> bool:
        """Stores an answer's score; False if no answer with this id is known.

        Raises:
            ModelUnavailable: the store is unavailable.
        """
        try:
            return await self._decider.feedback(id, score)
        except ActorUnavailable as error:
            raise _unavailable(error) from error

    async def route(self, question: BatchQuestion) -> Routes:
        """Decides a batch, each query among its candidates.

        Raises:
            InvalidRequest: the capacities are too small for the batch.
            ModelUnavailable: the embedder or the store is unavailable.
        """
        queries = [query[:MAX_QUERY_CHARACTERS] for query in question.queries]
        question = replace(question, queries=queries)
        try:
            async with asyncio.timeout(_BATCH_TIMEOUT_S):
                embeddings = await self._embedder(queries)
            return await self._decider.route(
                question, embeddings, show_queries=self._router.show_queries
            )
        except Impossible as error:
            raise InvalidRequest(str(error), param="capacities") from error
        except (ActorUnavailable, TimeoutError, RayError, RayServeException) as error:
            raise _unavailable(error) from error

    async def status(self, timeout_s: float) -> dict[str, Any]:
        """The state of the store."""
        # Open to callers without a key, so the decider is asked once a second at most.
        async with self._asking:
            if time.monotonic() - self._asked > _STATUS_PERIOD_S:
                try:
                    self._status = await self._decider.status(timeout_s)
                except ActorUnavailable as error:
                    self._status = {"status": "away", "message": str(error)}
                self._asked = time.monotonic()
        return self._status

    async def _embedding(self, query: str) -> Floats32 | None:
        if not query or time.monotonic() < self._not_before:
            return None
        try:
            async with asyncio.timeout(_EMBEDDING_TIMEOUT_S):
                embeddings = await self._embedder([query])
        except (TimeoutError, RayError, RayServeException) as error:
            if time.monotonic() >= self._not_before:
                logger.warning("routing without embeddings for %g s: %s", _PAUSE_S, error)
                self._not_before = time.monotonic() + _PAUSE_S
            return None
        embedding: Floats32 = embeddings[0]
        return embedding


def _unavailable(error: Exception) -> ModelUnavailable:
    logger.warning("smart routing is unavailable: %s", error)
    return ModelUnavailable("smart routing's store is unavailable; try again", retry_after=1)
