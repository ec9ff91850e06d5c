"""Decides in a router's own process, by the latest copy of the store.

In the background, each second or more often, the copy is refreshed and policies are exchanged.
While the store's actor is away, decisions go on by what is here.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from deployments.store.copies.folder import Folder, Manifest
from deployments.store.copies.reader import Reader
from deployments.store.evidence import Floats32, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from deployments.telemetry.instruments import SMART_FALLBACKS, STORE_COPY_AGE
from serve.actors import ActorUnavailable
from serve.routing.batches import Routes
from serve.routing.cascade.deciding import CascadeDecider, Probing
from serve.routing.decider import Decider, policy_of
from serve.routing.forecast.fits import read_fit
from serve.routing.forecast.fitting import Refit
from serve.routing.forecast.forecaster import Forecaster
from serve.routing.prices import Price, fingerprint
from serve.routing.strategy import BatchQuestion, Preview, Question, Ranking
from serve.routing.tradeoff import Tradeoff
from serve.smart.client import SharedStore

logger = logging.getLogger("ray.serve")

_PERIOD_S = 1.0  # between exchanges
_BUSY, _BUSY_PERIOD_S = 5, 0.25  # with more decisions than that, routers drift apart, so sooner
_READ_TIMEOUT_S = 60.0  # for a part of a file
_POLICY_TIMEOUT_S = 0.25  # for a policy that begins; without it a request is decided by itself
_NEIGHBOURS = 5  # past queries shown for each query of a batch
_MOST_WAITING = 16  # batches; more are refused


class Busy(Exception):
    """Too many batches are waiting."""


class Decisions:
    """Belongs to one event loop.

    Args:
        store: access to the store's actor.
        embedding_model: whose embeddings the copies must hold.
        copies: what identifies the store and its server's copies on this node.
        identities: of the models, by name.
        priors: initial qualities of the models that are configured with one.
        half_life_days: in which scores count half as much; None if they don't age.
    """

    def __init__(
        self,
        store: SharedStore,
        embedding_model: str,
        copies: Sequence[str],
        identities: Mapping[str, str],
        priors: Mapping[str, float],
        half_life_days: float | None = None,
    ) -> None:
        self._half_life_days = half_life_days
        self._store, self._embedding_model, self._copies = store, embedding_model, copies
        self._models, self._priors = tuple(identities.items()), priors
        self._router = secrets.token_hex(8)
        self._decider: CascadeDecider
        self._settings: tuple[Mapping[str, Price], int] | None = None
        self._manifest: Manifest | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._decided = 0
        self._preparing: dict[tuple[CascadeDecider, str], asyncio.Task[None]] = {}
        self._preparer = ThreadPoolExecutor(1, "policies")
        # One at a time, so that batches leave room for single requests.
        self._batches, self._waiting = ThreadPoolExecutor(1, "batches"), 0
        self._current_at = 0.0  # when the copy was last known to be the latest

    async def configure(
        self, prices: Mapping[str, Price], n_similar: int, server: str, exploration: float
    ) -> None:
        """Applies settings, by the copy that is on this node, and begins to follow the store."""
        prices = {name: prices[name] for name, _ in self._models}
        if self._refreshing is None:
            folder = await asyncio.to_thread(Folder.of, *self._copies, server)
            self._folder, self._reader = folder, Reader(folder, self._half_life_days)
        if self._settings != (prices, n_similar):
            nothing = SnapshotEvidence(Snapshot.nothing(len(prices)))
            decider = CascadeDecider(nothing, prices, self._priors, n_similar)
            # Before this there is no decider, or the one before goes on.
            self._manifest = await self._opened_local(decider)
            self._decider, self._priced = decider, fingerprint(prices)
            self._settings = prices, n_similar
        self._decider.explorer.share = exploration
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())

    @property
    def has_copy(self) -> bool:
        """Whether decisions know what the store knows."""
        return self._manifest is not None

    def stop(self) -> None:
        """Stops following the store; decisions go on by what is here."""
        if self._refreshing is not None:
            self._refreshing.cancel()

    async def decide(self, question: Question, embedding: Floats32 | None) -> Ranking:
        """Ranks the available models for one request; see `Decider.decide`."""
        await self._asked(question)
        return self._decider.decide(question, embedding)

    async def plan(self, question: Question, embedding: Floats32 | None) -> Ranking | Probing:
        """What to do first for one request; see `CascadeDecider.plan`."""
        await self._asked(self._decider.with_probes(question))
        # Anew: after a wait, other pairs may be worth it.
        return self._decider.plan(self._decider.with_probes(question), embedding)

    async def _asked(self, question: Question) -> None:
        """Counts a request. Begins its policy if there is none, and waits a moment for that."""
        if self._manifest is None:
            SMART_FALLBACKS.labels().inc()
        self._decided += 1
        if (name := self._decider.claim(question)) is not None:
            key = self._decider, name
            task = asyncio.create_task(self._prepare(*key, question))
            self._preparing[key] = task
            task.add_done_callback(lambda _: self._preparing.pop(key, None))
        if self._preparing and not question.floor:
            await self._begun(policy_of(question))

    async def _begun(self, name: str) -> None:
        """Waits a moment for a policy that is being begun."""
        task = self._preparing.get((self._decider, name))
        if task is not None and name not in self._decider.policies:
            await asyncio.wait([task], timeout=_POLICY_TIMEOUT_S)

    async def preview(
        self, question: Question, embedding: Floats32 | None, *, show_queries: bool
    ) -> Preview:
        """What `decide` would do now; see `Decider.preview`, and `route` for `show_queries`."""
        neighbours = _NEIGHBOURS if show_queries else 0
        preview = self._decider.preview(question, embedding, neighbours=neighbours)
        if not show_queries:
            return preview
        return replace(preview, past=await self._texts([id for id, _ in preview.near]))

    async def tradeoff(self, models: Sequence[str]) -> Tradeoff | None:
        """What each requirement would have cost, computed beside the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._batches, self._decider.tradeoff, models)

    async def route(
        self, question: BatchQuestion, embeddings: Floats32, *, show_queries: bool
    ) -> Routes:
        """Decides a batch beside the event loop; see `Decider.route`.

        Args:
            question: the batch, of n queries.
            embeddings: (n, d) of the queries.
            show_queries: whether to add the beginnings of past queries to the result, if the store
                can be asked.

        Raises:
            Busy: too many batches are waiting.
            Impossible: the batch can't be decided as asked.
        """
        if self._waiting >= _MOST_WAITING:
            raise Busy(f"{_MOST_WAITING} batches are already waiting")
        decider, neighbours = self._decider, _NEIGHBOURS if show_queries else 0
        self._waiting += 1
        try:
            routes = await asyncio.get_running_loop().run_in_executor(
                self._batches,
                lambda: decider.route(question, embeddings, neighbours=neighbours),
            )
        finally:
            self._waiting -= 1
        if not show_queries:
            return routes
        near = sorted({int(id) for id in routes.near.ravel()})
        return replace(routes, past=await self._texts(near))

    async def _texts(self, ids: Sequence[int]) -> Mapping[int, str]:
        """The beginnings of past queries; of none if the store can't be asked."""
        try:
            return await self._store.texts(ids)
        except ActorUnavailable as error:
            logger.warning("past queries are not shown: %s", error)
            return {}

    async def _prepare(self, decider: Decider, name: str, question: Question) -> None:
        loop, fitted = asyncio.get_running_loop(), decider.fitted
        try:
            policy = await loop.run_in_executor(self._preparer, decider.new_policy, name)
            if decider.fitted is fitted:  # else the next request prepares it anew
                decider.begin(question, policy)
        finally:
            decider.release(name)

    async def _refresh(self) -> None:
        while True:
            try:
                await self._exchange()
            except ActorUnavailable as error:
                logger.debug("no exchange with the store: %s", error)
            except Exception:  # such as a full disk; the copy that is here still counts
                logger.exception("the copy of the store was not refreshed; next attempt follows")
            await asyncio.sleep(_BUSY_PERIOD_S)
            if self._decided < _BUSY:
                await asyncio.sleep(_PERIOD_S - _BUSY_PERIOD_S)

    async def _exchange(self) -> None:
        decider, policies = self._decider, self._decider.policies
        self._decided = 0
        version = "" if self._manifest is None else self._manifest.version
        news = await self._store.exchange(self._router, version, self._priced, policies.report())
        policies.merge(news.policies)
        if news.manifest is None:
            if self._manifest is not None:
                self._is_current()
            return
        manifest = Manifest.from_dict(news.manifest)
        if self._is_comparable(manifest):
            await asyncio.to_thread(self._fetch, manifest, asyncio.get_running_loop())
            before = self._manifest
            await self._open(decider, manifest, before)
            if decider is self._decider:
                self._manifest = manifest
                self._is_current()

    def _is_current(self) -> None:
        self._current_at = time.monotonic()
        STORE_COPY_AGE.labels().set_function(lambda: time.monotonic() - self._current_at)

    def _is_comparable(self, manifest: Manifest) -> bool:
        """Whether a copy's embeddings are of the same model as queries' are."""
        return manifest.embedding_model == self._embedding_model

    def _fetch(self, manifest: Manifest, loop: asyncio.AbstractEventLoop) -> None:
        """Gets from the store's node what is not on this one."""

        def read(name: str, start: int) -> bytes:
            part = asyncio.run_coroutine_threadsafe(self._store.read(name, start), loop)
            return part.result(_READ_TIMEOUT_S)

        if self._folder.missing(manifest):
            self._folder.fetch(manifest, read)

    async def _opened_local(self, decider: Decider) -> Manifest | None:
        """Has a new decider decide by the copy that is on this node; None if there is none."""
        manifest = await asyncio.to_thread(self._folder.manifest)
        if manifest is None or not self._is_comparable(manifest):
            return None
        try:
            await self._open(decider, manifest, None)
        except Exception:  # a copy in which anything is wrong is made anew by the store
            logger.exception("the copy of the store on this node can't be used")
            return None
        return manifest

    async def _open(self, decider: Decider, manifest: Manifest, before: Manifest | None) -> None:
        """Has a decider decide by a copy, all of which then counts at once.

        Args:
            decider: decides by `before` until then.
            manifest: of the copy.
            before: None if the decider has no copy yet.
        """
        new_fit = before is None or before.fit != manifest.fit or before.models != manifest.models

        def read() -> Forecaster:
            copy = self._reader.copy(manifest, self._models)
            copy.prepare()
            return decider.forecaster(
                evidence=copy,
                fitted=self._fitted(manifest, decider) if new_fit else None,
                tokens_per_character=manifest.tokens_per_character,
                lengths=manifest.lengths_of(self._models),
            )

        decider.use(await asyncio.to_thread(read))

    def _fitted(self, manifest: Manifest, decider: Decider) -> Refit:
        """The predictor of a copy; one that isn't fitted where the copy has none for exactly these
        models."""
        if manifest.fit is None or manifest.models != self._models:
            return decider.refit(Snapshot.nothing(len(self._models)))
        return read_fit(self._folder.path / manifest.fit, decider.prior)
