"""Runs the store: opens, loads, imports, fits, publishes, saves and retries.

What fails is retried, and nothing here fails a request: routers decide by the last copy.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from deployments.store.copies.folder import Folder, Manifest
from deployments.store.evidence import Floats32, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from deployments.store.observations import Scored
from deployments.store.store import EmbeddingStore
from serve.routing.forecast.changes import Change, Changes
from serve.routing.forecast.fits import write_fit
from serve.routing.forecast.forecaster import Forecaster
from serve.routing.prices import Price, fingerprint
from serve.routing.shared_policies import SharedPolicies
from serve.smart import saved_policies
from serve.smart.bound import KeyBound
from serve.smart.refitting import new_scores

logger = logging.getLogger("ray.serve")

Embed = Callable[[list[str]], Awaitable[Floats32]]

_TICK_S = 1.0  # between copies; a crash loses at most this much of the policies
_SYNC_TICKS, _COLLECT_TICKS, _RETAIN_TICKS = 10, 60, 600
_FIT_PAUSE_S = 30.0  # between two fits
_FITTED_ROWS = 20_000
_RETRY_S, _LONGEST_RETRY_S = 2.0, 60.0  # backoff after a failed start
_EMBEDDING_S = 120.0  # for a piece of a history
_EMBEDDER_S = 120.0  # for the embedder to start
_PROGRESS_ROWS = 100_000


class Keeper:
    """Belongs to one event loop.

    Args:
        models: names, in the order of every array's columns.
        priors: initial qualities of the models that are configured with one.
        folder: where copies go.
        open_store: opens the store; may take seconds, and raises if it fails.
        histories: files to import.

    Attributes:
        folder, open_store: as given.
        store: None until it could be opened.
        policies: of all routers together, for the present prices.
        priced: identifies these prices.
        changes: of the models' quality, since this was made.
        bound: of what a key's scores may weigh.
        status, message: the state of the store: "waiting", "loading", "ready" or "failed", and
            details for people.
        rows: how many rows of what `message` describes are done, and of how many; empty if unknown.
    """

    def __init__(
        self,
        models: Sequence[str],
        priors: Mapping[str, float],
        folder: Folder,
        open_store: Callable[[], EmbeddingStore],
        histories: Sequence[Path],
    ) -> None:
        self._models, self._priors = list(models), priors
        self.folder, self.open_store = folder, open_store
        self._histories = histories
        self._imported_versions: dict[Path, tuple[int, int]] = {}
        self.store: EmbeddingStore | None = None
        self.policies, self.priced = SharedPolicies(), ""
        self.changes, self.bound = Changes(), KeyBound()
        self.status, self.message = "waiting", ""
        self.rows: tuple[int, ...] = ()
        self._published = False
        self._prices: dict[str, Price] = {}
        self._server = ""
        self._n_similar = 1
        self._tokens_per_character: float | None = None
        self._new_scores = 0
        self._saved: dict[str, Any] = {}
        self._life: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._worker = ThreadPoolExecutor(1, "fitter")
        self._fitting: asyncio.Task[None] | None = None
        self._joining: asyncio.Task[None] | None = None
        self._fitted_at = self._tried_at = 0.0  # the last fit that worked, and the last one

    @property
    def manifest(self) -> Manifest | None:
        """Of the latest copy; None before there is one."""
        return self._opened().publisher.manifest if self._published else None

    def configure(
        self, prices: Mapping[str, Price], n_similar: int, server: str, embed: Embed
    ) -> None:
        """Applies settings; changed prices start new policies, because multipliers are in USD.

        Args:
            prices: of every model.
            n_similar: the fewest past queries to predict from.
            server: identifies this server among those that share the store.
            embed: texts to embeddings.
        """
        self._embed, self._server = embed, server
        prices = {model: prices[model] for model in self._models}
        if self.priced != fingerprint(prices):
            self.policies, self.priced = SharedPolicies(), fingerprint(prices)
        self._prices, self._n_similar = prices, n_similar
        if self._life is None:
            self._life = asyncio.create_task(self._live())

    async def close(self) -> None:
        """Saves the policies and closes the store."""
        lives = [task for task in (self._life, self._publishing) if task is not None]
        for task in lives:
            task.cancel()
        works = [task for task in (self._fitting, self._joining) if task is not None]
        if running := lives + works:
            await asyncio.wait(running)
        if self.store is not None:
            if self._published:
                await self._try(self._save_policies)
            await asyncio.to_thread(self.store.close)

    def score(self, scored: Scored, score: float) -> Change | None:
        """Learns from the score of an answer, which the store has; enough first scores make a refit
        due.

        Returns:
            The change of the model's quality that it makes certain.
        """
        self.policies.correct(scored, score)
        if scored.replaced is None:
            self._new_scores += 1
        change = self.changes.score(scored, score)
        if change is not None:
            logger.warning("%s", change)
        return change

    async def _live(self) -> None:
        pause = _RETRY_S
        while True:
            try:
                await self._start()
                break
            except Exception:  # any cause may be temporary
                logger.exception("the store did not start; next attempt in %g s", pause)
                self.status, self.message = "failed", "see the server's log"
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_RETRY_S)
        tick = 0
        while True:
            await asyncio.sleep(_TICK_S)
            tick += 1
            if tick % _SYNC_TICKS == 0:
                self.message = ""
                await self._try(self._sync)
            if tick % _RETAIN_TICKS == 0:
                await self._try(self._retain)
                await self._try(self._import_all)
            self._fit_if_due()

    async def _publish_always(self) -> None:
        """Beside all else, since an import or a fit may take minutes."""
        tick = 0
        while True:
            await asyncio.sleep(_TICK_S)
            tick += 1
            await self._try(self._publish)
            await self._try(self._save_policies)
            self._join_if_due()
            if tick % _COLLECT_TICKS == 0:
                await self._try(self._collect)

    async def _try(self, work: Callable[[EmbeddingStore], Awaitable[None]]) -> None:
        try:
            await work(self._opened())
        except Exception:  # any cause may be temporary
            logger.exception("maintenance of the store failed; it will be retried")
            self.message = "its database failed; see the server's log"

    def _opened(self) -> EmbeddingStore:
        assert self.store is not None, "the store is open before it is maintained"
        return self.store

    async def _start(self) -> None:
        if self.store is None:
            self.store = await asyncio.to_thread(self.open_store)
        store = self.store
        await self._count_scores(store)  # they are taken from now on
        self.status, self.message = "loading", ""
        if not self._published:  # else this is another attempt at what follows
            if not await asyncio.to_thread(store.resume):
                await asyncio.to_thread(store.retain)
                await asyncio.to_thread(self._load, store)
            policies = self.policies  # prices that change meanwhile begin others
            saved = await asyncio.to_thread(
                saved_policies.load, store.database.state, self.priced, self._server
            )
            policies.restore(saved, self._models)
            manifest = store.publisher.manifest
            self._tokens_per_character = manifest.tokens_per_character
            if manifest.fitted_scores is not None:  # new ones of before the restart still count
                self._new_scores += abs(_scores(store) - manifest.fitted_scores)
            self._published = True
            self._publishing = asyncio.create_task(self._publish_always())
            await self._try(self._collect)  # what a crash has left
        await self._sync(store)
        await self._import_all(store)
        if store.publisher.manifest.fit is None:
            self.message = "fitting the predictor"
            await self._fit(store)
        self.message = ""
        await self._wait_for_embedder()
        self.status = "ready"
        logger.info("the store is ready: %s scored queries", len(store.publisher.copy))

    async def _publish(self, store: EmbeddingStore) -> None:
        """Publishes what has changed since the last time."""
        ratio = self._tokens_per_character
        await asyncio.to_thread(store.publish, tokens_per_character=ratio)

    async def _wait_for_embedder(self) -> None:
        """Waits until queries can be embedded; without that, nothing is learned from answers."""
        self.message = "waiting for the embedding model"
        try:
            async with asyncio.timeout(_EMBEDDER_S):
                await self._embed([])
        except Exception as error:  # noqa: BLE001 - past queries are of use without it
            logger.warning(
                "the embedding model does not respond; nothing is learned until it does: %s",
                str(error) or type(error).__name__,
            )
        self.message = ""

    def _load(self, store: EmbeddingStore) -> None:
        total = store.database.count()

        def progress(loaded: int) -> None:
            before = self.message
            self.message = f"{loaded // _PROGRESS_ROWS * _PROGRESS_ROWS} of {total} rows or more"
            if self.message != before and loaded >= _PROGRESS_ROWS:
                logger.info("loading the store: %s", self.message)

        store.load(progress)
        self.message = ""

    async def _import_all(self, store: EmbeddingStore) -> None:
        """Imports the histories that have not been imported yet, and publishes them. One that fails
        doesn't stop the others, and is retried."""
        loop, before = asyncio.get_running_loop(), _scores(store)
        for file in self._histories:
            try:
                await asyncio.to_thread(self._imported, store, file, loop)
            except Exception:  # anything from a bad row to a full disk
                logger.exception("the history %s was not imported", file)
        await self._publish(store)
        self._new_scores += abs(_scores(store) - before)
        await self._sync(store)

    def _imported(self, store: EmbeddingStore, file: Path, loop: asyncio.AbstractEventLoop) -> None:
        about = file.stat()
        version = about.st_mtime_ns, about.st_size
        if self._imported_versions.get(file) == version:
            return
        name, digest = f"imported:{file.stem}", hashlib.sha256(file.read_bytes()).hexdigest()
        if store.database.state.get(name) != digest:
            self._import_file(store, file, loop)
            store.database.state.set(name, digest)
        self._imported_versions[file] = version

    def _import_file(
        self, store: EmbeddingStore, file: Path, loop: asyncio.AbstractEventLoop
    ) -> None:
        from deployments.store.files.history import read_history
        from deployments.store.files.importing import import_history

        def progress(done: int) -> None:
            self.rows = (done, total)

        def embed(texts: Sequence[str]) -> Floats32:
            embedded = asyncio.run_coroutine_threadsafe(self._embedded(list(texts)), loop)
            return embedded.result(_EMBEDDING_S)

        logger.info("importing %s into the store", file)
        total = sum(1 for _ in read_history(file))
        self.message, self.rows = f"importing {file.name}", (0, total)
        try:
            import_history(
                store.database,
                file,
                embed,
                name=file.stem,
                progress=progress,
                written=store.read_imported,
            )
        finally:
            self.message, self.rows = "", ()

    async def _embedded(self, texts: list[str]) -> Floats32:
        return await self._embed(texts)

    async def _sync(self, store: EmbeddingStore) -> None:
        """Reads what other processes wrote or deleted, and the recent length of prompts."""
        await self._publish(store)
        before = _scores(store)
        await asyncio.to_thread(store.sync)
        await self._count_scores(store)
        self._tokens_per_character = (
            await asyncio.to_thread(store.database.tokens_per_character)
            or self._tokens_per_character
        )
        await self._publish(store)
        self._new_scores += abs(_scores(store) - before)

    async def _count_scores(self, store: EmbeddingStore) -> None:
        self.bound.restart(await asyncio.to_thread(store.database.owners.scores))

    async def _retain(self, store: EmbeddingStore) -> None:
        await asyncio.to_thread(store.retain)

    async def _collect(self, store: EmbeddingStore) -> None:
        await asyncio.to_thread(store.publisher.collect)

    async def _save_policies(self, store: EmbeddingStore) -> None:
        policies = self.policies.to_dict()
        if policies != self._saved:
            state, priced, server = store.database.state, self.priced, self._server
            await asyncio.to_thread(saved_policies.save, state, priced, server, policies)
            self._saved = policies

    def _fit_if_due(self) -> None:
        if self._fitting is not None and not self._fitting.done():
            return
        store, now = self._opened(), asyncio.get_running_loop().time()
        since_s = now - self._fitted_at
        enough = new_scores(len(store.publisher.copy), since_s, store.half_life_days)
        is_due = self._new_scores >= enough or store.publisher.manifest.fit is None
        if is_due and now - self._tried_at >= _FIT_PAUSE_S:
            self._fitting = asyncio.create_task(self._try(self._fit))

    def _join_if_due(self) -> None:
        if self._joining is not None and not self._joining.done():
            return
        if self._opened().publisher.is_due:
            self._joining = asyncio.create_task(self._try(self._join))

    async def _join(self, store: EmbeddingStore) -> None:
        await asyncio.to_thread(store.publisher.join)

    async def _fit(self, store: EmbeddingStore) -> None:
        """Fits a predictor on the store's rows and publishes it."""
        new, prices, n_similar = self._new_scores, self._prices, self._n_similar
        scores = _scores(store)

        def work() -> str:
            own = [self._priors.get(model, np.nan) for model in self._models]
            nothing = SnapshotEvidence(Snapshot.nothing(len(self._models)))
            forecaster = Forecaster(nothing, list(prices.values()), own, n_similar)
            ids = store.publisher.sample(_FITTED_ROWS, np.random.default_rng(0))
            fitted = forecaster.refit(store.snapshot(ids))
            name = f"fit-{secrets.token_hex(8)}.npz"
            write_fit(self.folder.path / name, fitted)
            logger.info(
                "fitted a predictor; evaluated on %s queries; better than neighbours: %s",
                len(fitted.characters),
                fitted.accepted,
            )
            return name

        loop = asyncio.get_running_loop()
        try:
            name = await loop.run_in_executor(self._worker, work)
            await asyncio.to_thread(store.publish, fit=name, fitted_scores=scores)
        finally:
            self._tried_at = loop.time()
        self._fitted_at = self._tried_at
        self._new_scores -= new


def _scores(store: EmbeddingStore) -> int:
    """How many scores of models on queries the latest copy has."""
    return int(store.publisher.copy.means().count.sum())
