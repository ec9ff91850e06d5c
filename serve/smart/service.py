"""Smart routing in a router replica: its embedder, decisions and learner, put together."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.config import ModelConfig
from deployments.embedding.cache import CachedEmbedder
from deployments.embedding.embedder import EMBEDDER
from deployments.embedding.encoder import Encoder
from deployments.embedding.local import LocalEmbedder
from deployments.errors import InvalidRequest, ModelUnavailable
from deployments.store.evidence import Floats32
from deployments.store.observations import MAX_QUERY_CHARACTERS
from deployments.telemetry.instruments import EMBEDDING_TIME
from serve.actors import ActorUnavailable
from serve.config import RouterConfig, StoreConfig
from serve.dispatch.dispatcher import Dispatcher
from serve.routing.batches import Impossible, Routes
from serve.routing.cascade.deciding import Probing
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Preview, Question, Ranking
from serve.smart.actor import Feedback
from serve.smart.cascade import Probed
from serve.smart.client import SharedStore
from serve.smart.decisions import Busy, Decisions
from serve.smart.judging import Judging
from serve.smart.learning import Learner, Lesson
from serve.smart.server_name import server_name
from serve.smart.tradeoffs import Tradeoffs
from serve.telemetry.answers import record_change, record_score
from serve.telemetry.calls import counted

logger = logging.getLogger("ray.serve")

# An embedding takes milliseconds; after this a request continues without it.
_EMBEDDING_TIMEOUT_S = 2.0
_PAUSE_S = 5.0  # without embeddings after the embedder failed
_BATCH_TIMEOUT_S = 120.0
_STATUS_PERIOD_S = 1.0


class Smart:
    """Smart routing as a router replica sees it.

    Args:
        models: by their names.
        config: of the store.
        embedder: the deployment that embeds; None to embed in this process.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        config: StoreConfig,
        embedder: DeploymentHandle[Any] | None,
    ) -> None:
        encoder = Encoder(config.embedding_model)
        embed = LocalEmbedder(encoder) if embedder is None else counted(embedder.remote, EMBEDDER)
        self._embedder = CachedEmbedder(embed)
        self._not_before = 0.0
        identities = {name: model.identity for name, model in models.items()}
        priors = {
            name: model.prior_quality
            for name, model in models.items()
            if model.prior_quality is not None
        }
        self._identities = identities
        self._store = SharedStore(embedder, identities, priors)
        self._decisions = Decisions(
            self._store,
            encoder.name,
            config.copies,
            identities,
            priors,
            half_life_days=config.half_life_days,
        )
        self.tradeoffs = Tradeoffs(self._decisions.tradeoff)
        self.learner = Learner(self._store, self._embedder, identities)
        self._status: dict[str, Any] = {}
        self._asked = -inf
        self._asking = asyncio.Lock()

    async def configure(self, router: RouterConfig, prices: dict[str, Price]) -> None:
        """Applies new settings, and the prices of all models."""
        self._router = router
        server = await asyncio.to_thread(server_name)
        self._store.configure(prices, router.n_similar, server)
        await self._decisions.configure(prices, router.n_similar, server, router.exploration)
        if self.learner.judging is not None:
            self.learner.judging.configure(router.scoring, prices)

    def judge_by(self, dispatcher: Dispatcher) -> None:
        """Scores a sample of answers, as far as settings say so; the dispatcher calls the judge."""
        self.learner.judging = Judging(dispatcher, self._identities, self._rate)

    async def close(self) -> None:
        """Sends what is to be learned, if the store can be reached at once."""
        if self.learner.judging is not None:
            self.learner.judging.close()
        await self.learner.close()

    def retire(self) -> None:
        """Lets answers in progress be learned, and no longer says which models there are."""
        self._store.retire()
        self._decisions.stop()

    async def decide(self, question: Question) -> Ranking:
        """Ranks the available models for one request."""
        return await self._decisions.decide(question, await self._embedding(question.query))

    async def plan(self, question: Question) -> Ranking | Probing:
        """What to do first for one request: ask one of the available models, or two."""
        return await self._decisions.plan(question, await self._embedding(question.query))

    def learn_probe(self, question: Question, model: str, probed: Probed) -> None:
        """Learns from a probe's answer that doesn't count."""
        if question.query:
            lesson = Lesson.of_probe(question, probed.said)
            self.learner.learn_probe(lesson, model, probed.answer, probed.seconds)

    async def preview(self, question: Question) -> Preview:
        """What `decide` would do now."""
        embedding = await self._embedding(question.query)
        return await self._decisions.preview(
            question, embedding, show_queries=self._router.show_queries
        )

    async def feedback(
        self, id: str, score: float, key: str | None = None, *, bounded: bool = True
    ) -> bool | None:
        """Stores an answer's score, which the caller with this key gives.

        Args:
            id: the answer's.
            score: 0 to 1.
            key: the key's name; None without one.
            bounded: whether too many scores of the key are not learned.

        Returns:
            Whether it counts (see `KeyBound`); None if no answer with this id to this key is known.

        Raises:
            ModelUnavailable: the store is unavailable.
        """
        feedback = await self._told(self._store.feedback, id, score, key, bounded)
        return None if feedback is None else feedback.scored is not None

    async def route(self, question: BatchQuestion) -> Routes:
        """Decides a batch, each query among its candidates.

        Raises:
            InvalidRequest: the capacities are too small for the batch.
            ModelUnavailable: the embedder is unavailable, or too many batches are waiting.
        """
        queries = [query[:MAX_QUERY_CHARACTERS] for query in question.queries]
        question = replace(question, queries=queries)
        try:
            async with asyncio.timeout(_BATCH_TIMEOUT_S):
                embeddings = await self.embed(queries)
                return await self._decisions.route(
                    question, embeddings, show_queries=self._router.show_queries
                )
        except Impossible as error:
            raise InvalidRequest(str(error), param="capacities") from error
        except (Busy, TimeoutError) as error:
            raise _unavailable(error) from error

    async def status(self, timeout_s: float) -> dict[str, Any]:
        """The state of the store; "ready" when this router has a copy of it, too."""
        # Open to callers without a key, so the actor is asked once a second at most.
        async with self._asking:
            if time.monotonic() - self._asked > _STATUS_PERIOD_S:
                try:
                    self._status = await self._store.status(timeout_s)
                except ActorUnavailable as error:
                    self._status = {"status": "away", "message": str(error)}
                self._asked = time.monotonic()
        if self._status["status"] == "ready" and not self._decisions.has_copy:
            return {**self._status, "status": "loading", "message": "copying it to this router"}
        return self._status

    async def embed(self, texts: Sequence[str]) -> Floats32:
        """Embeddings (n, d), each of length 1. Long texts are cut.

        Raises:
            ModelUnavailable: the embedder is unavailable.
        """
        try:
            return await self._embedder(texts)
        except Exception as error:  # whatever it is, the caller may try again
            raise _unavailable(error) from error

    async def _rate(self, id: str, score: float) -> bool:
        """Stores a score that an answer gets by itself; False if it is unknown, or has one."""
        return await self._told(self._store.rate, id, score) is not None

    async def _told(
        self, tell: Callable[..., Awaitable[Feedback | None]], id: str, score: float, *more: Any
    ) -> Feedback | None:
        """What became of a score that the store is told, once it knows all answers so far."""
        try:
            await self.learner.flush()
            feedback = await tell(id, score, *more)
        except ActorUnavailable as error:
            raise _unavailable(error) from error
        if feedback is not None and feedback.scored is not None:
            record_score(feedback.scored, score)
            if feedback.change is not None:
                record_change(feedback.change)
        return feedback

    async def _embedding(self, query: str) -> Floats32 | None:
        if not query:
            return None
        if (recent := self._embedder.recent(query)) is not None:
            return recent
        if time.monotonic() < self._not_before:
            return None
        try:
            async with asyncio.timeout(_EMBEDDING_TIMEOUT_S):
                with EMBEDDING_TIME.labels().time():
                    embeddings = await self._embedder([query])
        except Exception as error:  # noqa: BLE001 - whatever it is, the request is answered
            if time.monotonic() >= self._not_before:
                logger.warning("routing without embeddings for %g s: %s", _PAUSE_S, error)
                self._not_before = time.monotonic() + _PAUSE_S
            return None
        embedding: Floats32 = embeddings[0]
        return embedding


def _unavailable(error: Exception) -> ModelUnavailable:
    logger.warning("smart routing is unavailable: %s", error)
    return ModelUnavailable("smart routing is unavailable; try again", retry_after=1)
