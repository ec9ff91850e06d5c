"""The store's actor: one for all router replicas, it writes, fits, and publishes copies.

It decides nothing: each router does that by its copy. So while it is away, decisions go on.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray.serve.handle import DeploymentHandle

from deployments.embedding.cache import CachedEmbedder
from deployments.store.observations import Learned, Scored
from serve.config import StoreConfig
from serve.routing.forecast.changes import Change
from serve.routing.policies import Report, Shared
from serve.routing.prices import Price

if TYPE_CHECKING:
    from serve.smart.keeper import Keeper

_SHOWN_CHARACTERS = 500  # of a past query
_FEEDBACK_RETRY_S = 0.5


class StoreNotOpen(Exception):
    """The store has not been opened yet."""


@dataclass(frozen=True, slots=True)
class News:
    """What a router learns from an exchange.

    Attributes:
        manifest: of the latest copy, in plain values; None if the router has it, or there is none.
        policies: those that the router reported, and at first others, as all routers together have
            them.
    """

    manifest: dict[str, Any] | None
    policies: dict[str, Shared]


@dataclass(frozen=True, slots=True)
class Feedback:
    """What became of an answer's score.

    Attributes:
        scored: the answer; None if the score isn't learned from, since its key has given so many.
        change: of its model's quality, if this score made that certain.
    """

    scored: Scored | None
    change: Change | None


# Ray Serve starts no router before this actor, so it must never wait for room.
@ray.remote(num_cpus=0)
class StoreActor:
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

        self._config = StoreConfig.model_validate(store)
        self._encoder = Encoder(self._config.embedding_model)
        self._url = self._config.resolved_url()
        self._models = identities, priors
        self._keeper: Keeper | None = None
        self._check_database()

    async def configure(
        self,
        identities: dict[str, str],
        priors: dict[str, float],
        embedder: DeploymentHandle[Any] | None,
        prices: dict[str, Price],
        n_similar: int,
        server: str,
    ) -> None:
        """Applies the models and settings of a router replica; they are the same for all replicas.

        With other models the store makes a new copy; until it is published, the one before counts.
        """
        before = self._keeper
        if before is None or (identities, priors) != self._models:
            self._models = identities, priors
            self._keeper = self._new_keeper(server)
        assert self._keeper is not None
        self._keeper.configure(prices, n_similar, server, self._embed(embedder))
        if before is not None and before is not self._keeper:
            await before.close()

    async def exchange(
        self, router: str, version: str, prices: str, reports: Mapping[str, Report]
    ) -> News:
        """Takes a router's reports of its policies, and tells it what is new.

        Args:
            router: identifies the router's process.
            version: of the manifest that it has.
            prices: identifies the prices that its policies are for, since multipliers are in USD.
            reports: see `Policies.report`.
        """
        keeper = self._keeper
        if keeper is None:
            return News(None, {})
        policies = keeper.policies.exchange(router, reports) if prices == keeper.priced else {}
        manifest = keeper.manifest
        if manifest is None or manifest.version == version:
            return News(None, policies)
        return News(manifest.to_dict(), policies)

    async def read(self, name: str, start: int) -> bytes:
        """A part of a file of the latest copies; see `Folder.read`.

        Raises:
            StoreNotOpen, OSError: there is no such file.
        """
        if self._keeper is None:
            raise StoreNotOpen("the store has not been opened yet")
        return await asyncio.to_thread(self._keeper.folder.read, name, start)

    async def learn(self, items: Sequence[Learned]) -> int:
        """Stores what models did; durable when this returns.

        Returns:
            How many items could not be stored, because there is something wrong with them.

        Raises:
            StoreNotOpen, StoreOverloaded, DatabaseUnavailable: nothing, or not all, could be
                stored. The call may be repeated: answers that are known count once.
        """
        from deployments.store.errors import DatabaseUnavailable, StoreOverloaded

        store = self._opened().store
        assert store is not None
        futures = [asyncio.wrap_future(store.observe(item)) for item in items]
        results = await asyncio.gather(*futures, return_exceptions=True)
        faults = [result for result in results if isinstance(result, BaseException)]
        for fault in faults:
            if isinstance(fault, DatabaseUnavailable | StoreOverloaded):
                raise fault
        return len(faults)

    async def feedback(
        self, id: str, score: float, key: str | None = None, bounded: bool = True
    ) -> Feedback | None:
        """Stores an answer's score; durable when this returns.

        Args:
            id: the answer's.
            score: 0 to 1.
            key: the name of the key that scores it; None without one.
            bounded: whether too many scores of the key are not learned; see `KeyBound`.

        Returns:
            None if no answer with this id to this key is known.

        Raises:
            StoreNotOpen, StoreOverloaded, DatabaseUnavailable: it could not be stored.
        """
        if not await self._may_score(id, key):
            # The answer's record may still be on its way from another router replica.
            await asyncio.sleep(_FEEDBACK_RETRY_S)
            if not await self._may_score(id, key):
                return None
        keeper = self._opened()
        if bounded and not keeper.bound.admits(key):
            return Feedback(None, None)
        keeper.bound.count(key)  # before it is stored: others of this key may come meanwhile
        scored = None
        try:
            scored = await self._scored(id, score, replace=True)
        finally:
            if scored is None or scored.replaced is not None:
                keeper.bound.take_back(key)
        if scored is None:  # it has just been deleted
            return None
        return Feedback(scored, keeper.score(scored, score))

    async def rate(self, id: str, score: float) -> Feedback | None:
        """Stores a score that an answer gets by itself, 0 to 1; durable when this returns. None if
        the id is unknown, or the answer has a score.

        Raises:
            StoreNotOpen, StoreOverloaded, DatabaseUnavailable: it could not be stored.
        """
        scored = await self._scored(id, score, replace=False)
        if scored is None:
            return None
        return Feedback(scored, self._opened().score(scored, score))

    async def texts(self, ids: Sequence[int]) -> dict[int, str]:
        """The beginnings of past queries, by their numbers."""
        store = self._opened().store
        assert store is not None
        rows = await asyncio.to_thread(store.database.read, ids)
        return {row.id: row.query[:_SHOWN_CHARACTERS] for row in rows}

    async def status(self) -> dict[str, Any]:
        """The state of the store, for /health/ready."""
        keeper = self._keeper
        if keeper is None:
            return {"status": "waiting", "message": "", "rows": (), "changes": {}}
        status = {
            "status": keeper.status,
            "message": keeper.message,
            "rows": keeper.rows,
            "changes": {name: asdict(change) for name, change in keeper.changes.latest.items()},
        }
        if keeper.store is None:
            return status
        copy = keeper.store.publisher.copy
        return {**status, "scored": copy.scored, "unscored": copy.unscored}

    def _check_database(self) -> None:
        """Raises at once what only an operator can repair."""
        from deployments.store.errors import EmbeddingModelChanged
        from deployments.store.sql.database import Database

        try:
            Database(self._url, self._encoder.name, self._encoder.dimensions).close()
        except EmbeddingModelChanged:
            raise
        except (ValueError, ConnectionError):
            pass  # the keeper tries again and reports the cause

    def _new_keeper(self, server: str) -> "Keeper":
        from deployments.store.copies.folder import Folder
        from deployments.store.retention import Retention
        from deployments.store.sql.database import Database
        from deployments.store.store import EmbeddingStore
        from serve.smart.keeper import Keeper

        identities, priors = self._models
        name, dimensions = self._encoder.name, self._encoder.dimensions
        retention = Retention(self._config.most_queries, self._config.most_days)
        url, folder = self._url, Folder.of(*self._config.copies, server)
        half_life_days = self._config.half_life_days

        def open_store() -> EmbeddingStore:
            database = Database(url, name, dimensions, identities=identities, retention=retention)
            return EmbeddingStore(database, folder, half_life_days)

        histories = [Path(file) for file in self._config.history]
        return Keeper(list(identities), priors, folder, open_store, histories)

    def _embed(self, embedder: DeploymentHandle[Any] | None) -> CachedEmbedder:
        """Embeds histories: without a cache, since their texts occur once; in pieces, to let
        requests through."""
        from deployments.embedding.local import LocalEmbedder

        embed = LocalEmbedder(self._encoder) if embedder is None else embedder.remote
        return CachedEmbedder(embed, size=0)

    def _opened(self) -> "Keeper":
        if self._keeper is None or self._keeper.store is None:
            raise StoreNotOpen("the store has not been opened yet")
        return self._keeper

    async def _may_score(self, id: str, key: str | None) -> bool:
        store = self._opened().store
        assert store is not None
        return await asyncio.to_thread(store.database.owners.may_score, id, key)

    async def _scored(self, id: str, score: float, *, replace: bool) -> Scored | None:
        store = self._opened().store
        assert store is not None
        return await asyncio.wrap_future(store.score(id, score, replace=replace))
