"""The actor that decides for all router replicas: store, forecasts and policies in one process.

A decision is one message, so that searching, predicting and optimising cost one round trip. The
store's database outlives the actor, which loads it into memory when it starts.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.serve.handle import DeploymentHandle

from deployments.embedding.cache import CachedEmbedder
from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation, Scored
from serve.config import StoreConfig
from serve.routing.decider import Routes
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Question, Ranking

if TYPE_CHECKING:
    from serve.smart.keeper import Keeper

_SHOWN_CHARACTERS = 500  # of a past query
_NEIGHBOURS = 5  # past queries shown for each query of a batch
_FEEDBACK_RETRY_S = 0.5
_MAX_WAITING_BATCHES = 16


class Busy(Exception):
    """Too many batches are waiting."""


class StoreNotOpen(Exception):
    """The store has not been opened yet."""


# Ray Serve starts no router before this actor, so it must never wait for room.
@ray.remote(num_cpus=0)
class DeciderActor:
    """One per application.

    Args:
        identities: of the models, by name, in the order of every array's columns.
        priors: initial qualities of the models that are configured with one.
        store: a StoreConfig in plain values.

    Raises:
        EmbeddingModelChanged: the store's database holds embeddings of another model.
        ValueError: its URL names an environment variable that is not set here.
    """

    def __init__(
        self, identities: dict[str, str], priors: dict[str, float], store: dict[str, Any]
    ) -> None:
        from deployments.embedding.encoder import Encoder
        from deployments.store.errors import EmbeddingModelChanged

        self._config = StoreConfig.model_validate(store)
        self._encoder = Encoder(self._config.embedding_model)
        self._url = self._config.resolved_url()
        self._models = identities, priors
        self._keeper = self._new_keeper()
        try:
            self._keeper.store = self._keeper.open_store()
        except EmbeddingModelChanged:
            raise  # only an operator can repair this
        except (ValueError, ConnectionError):
            pass  # the keeper tries again and reports the cause
        # One at a time, so that batches leave room for single requests.
        self._batches, self._waiting = ThreadPoolExecutor(1, "batches"), 0
        self._preparing: dict[str, asyncio.Task[None]] = {}

    def _new_keeper(self) -> "Keeper":
        from deployments.store.retention import Retention
        from deployments.store.sql.database import Database
        from deployments.store.store import EmbeddingStore
        from serve.smart.keeper import Keeper

        identities, priors = self._models
        name, dimensions = self._encoder.name, self._encoder.dimensions
        retention = Retention(self._config.most_queries, self._config.most_days)
        models, url = list(identities), self._url

        def open_store() -> EmbeddingStore:
            database = Database(url, name, dimensions, identities=identities, retention=retention)
            return EmbeddingStore(database, models, dimensions)

        histories = [Path(file) for file in self._config.history]
        return Keeper(models, priors, open_store, histories)

    async def configure(
        self,
        identities: dict[str, str],
        priors: dict[str, float],
        embedder: DeploymentHandle[Any],
        prices: dict[str, Price],
        n_similar: int,
        server: str,
    ) -> None:
        """Applies the models and settings of a router replica; they are the same for all replicas.

        With other models the store is read anew; until it is, prices decide.
        """
        # Without a cache, since a history's texts occur once; in pieces, to let requests through.
        embed = CachedEmbedder(embedder.remote, size=0)
        before = self._keeper
        if (identities, priors) != self._models:
            self._models = identities, priors
            self._keeper = self._new_keeper()
            self._preparing.clear()
        self._keeper.configure(prices, n_similar, server, embed)
        if before is not self._keeper:
            await before.close()

    async def decide(self, question: Question, embedding: Floats32 | None) -> Ranking:
        """See `Decider.decide`."""
        decider = self._keeper.decider
        if not decider.ready_for(question):
            await self._prepared(question)
        return decider.decide(question, embedding)

    async def route(
        self, question: BatchQuestion, embeddings: Floats32, show_queries: bool
    ) -> Routes:
        """See `Decider.route`; `show_queries` adds the beginnings of past queries to the result.

        Raises:
            Busy: too many batches are waiting.
        """
        decider, store = self._keeper.decider, self._keeper.store
        if self._waiting >= _MAX_WAITING_BATCHES:
            raise Busy(f"{_MAX_WAITING_BATCHES} batches are already waiting")

        def work() -> Routes:
            if not show_queries:
                return decider.route(question, embeddings, neighbours=0)
            routes = decider.route(question, embeddings, neighbours=_NEIGHBOURS)
            near = sorted({int(id) for id in routes.near.ravel()})
            rows = store.database.read(near) if store is not None else []
            return replace(routes, past={row.id: row.query[:_SHOWN_CHARACTERS] for row in rows})

        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._batches, work)
        finally:
            self._waiting -= 1

    async def learn(self, observation: Observation, answer: AnswerRecord) -> None:
        """Stores what a model did; durable when this returns.

        Raises:
            StoreNotOpen, StoreOverloaded, DatabaseUnavailable: it could not be stored.
        """
        if self._keeper.store is None:
            raise StoreNotOpen("the store has not been opened yet")
        await asyncio.wrap_future(self._keeper.store.observe(observation, answer))

    async def feedback(self, id: str, score: float) -> bool:
        """Stores an answer's score; durable when this returns. False if the id is unknown.

        Raises:
            StoreNotOpen, StoreOverloaded, DatabaseUnavailable: it could not be stored.
        """
        scored = await self._scored(id, score)
        if scored is None:
            # The answer's record may still be on its way from another router replica.
            await asyncio.sleep(_FEEDBACK_RETRY_S)
            scored = await self._scored(id, score)
        if scored is None:
            return False
        keeper = self._keeper
        keeper.decider.correct(scored, score)
        if scored.replaced is None:
            keeper.scored()
        return True

    async def _scored(self, id: str, score: float) -> Scored | None:
        if self._keeper.store is None:
            raise StoreNotOpen("the store has not been opened yet")
        return await asyncio.wrap_future(self._keeper.store.score(id, score))

    async def status(self) -> dict[str, Any]:
        """The state of the store, for /health/ready."""
        keeper = self._keeper
        status = {"status": keeper.status, "message": keeper.message, "rows": keeper.rows}
        if keeper.store is None:
            return status
        rows = keeper.store.rows
        return {**status, "scored": len(rows), "unscored": rows.unscored}

    async def _prepared(self, question: Question) -> None:
        """Prepares a policy, once for all requests that wait for it."""
        decider = self._keeper.decider
        name = decider.policy_name(question)
        if name not in self._preparing:

            async def prepare() -> None:
                try:
                    decider.begin(name, await asyncio.to_thread(decider.new_policy, name))
                finally:
                    self._preparing.pop(name, None)

            self._preparing[name] = asyncio.create_task(prepare())
        await asyncio.shield(self._preparing[name])
