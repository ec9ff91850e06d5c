"""The embedding store: a durable database, one writer, and copies that routers decide by.

A write's future resolves after the commit. Writes that arrive while a transaction runs share the
next one, so that many of them pay for one durable commit, which takes milliseconds. What they
changed is in the next copy that is published.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from deployments.store.ageing import Ageing
from deployments.store.copies.folder import Folder, Manifest
from deployments.store.copies.publisher import Publisher
from deployments.store.errors import (
    DatabaseUnavailable,
    EmbeddingModelChanged,
    NoStore,
    StoreOverloaded,
)
from deployments.store.evidence import Snapshot
from deployments.store.memory.snapshots import snapshot_of_rows
from deployments.store.observations import Learned, MeanLength, Scored
from deployments.store.sql.chunks import chunks
from deployments.store.sql.database import Database
from deployments.store.sql.reading import Batch

logger = logging.getLogger("ray.serve")

_MOST_WAITING = 10_000  # writes; more raise StoreOverloaded
_BATCH = 512  # writes in one transaction, and rows in one reading
_BACKOFF_S = 0.1, 0.5, 2.0, 10.0  # between attempts to write while the database is unavailable
_DATABASE_ERRORS = DatabaseUnavailable, EmbeddingModelChanged, NoStore  # no single write's fault


@dataclass(frozen=True, slots=True)
class _Write:
    item: Learned
    done: "Future[None]"


@dataclass(frozen=True, slots=True)
class _Score:
    id: str
    score: float
    replace: bool
    done: "Future[Scored | None]"


T = TypeVar("T")
Waiting = TypeVar("Waiting", _Write, _Score)
Done = tuple[Sequence[int], Sequence[Any]]  # numbers of queries to reload, each item's result


class EmbeddingStore:
    """Past queries: kept in a database, written by one thread, published as copies.

    Args:
        database: where they are kept.
        folder: where copies go.
        half_life_days: in which scores count half as much in a snapshot; None if they don't age.

    Attributes:
        loaded: how many rows `load` has read so far.
        publisher: of the copies; `publisher.copy` is the latest one, in which nothing ages.
        half_life_days: as given.
    """

    def __init__(
        self, database: Database, folder: Folder, half_life_days: float | None = None
    ) -> None:
        self.database, self.half_life_days = database, half_life_days
        self.publisher = Publisher(
            folder,
            Manifest(
                store=database.id,
                embedding_model=database.embedding_model,
                dimensions=database.dimensions,
                models=tuple(database.identities.items()),
            ),
        )
        self.loaded = 0
        self._waiting: queue.Queue[_Write | _Score | None] = queue.Queue(_MOST_WAITING)
        self._closing, self._is_closed = threading.Lock(), False
        self._synced = self._deletions = 0
        self._unread: set[int] = set()
        self._unadopted: set[int] = set()
        self._lengths: tuple[MeanLength, ...] = ()
        # Without it, a row read before its deletion could be put back after it.
        self._refreshing = threading.Lock()
        # From before a transaction until its rows wait to be published.
        self._writing = threading.Lock()
        database.on_deleted = self._forget
        self._writer = threading.Thread(target=self._write_all, name="store-writer", daemon=True)
        self._writer.start()

    def resume(self) -> bool:
        """Goes on from the last copy, which lacks only what has changed since; `sync` reads that.
        False if there is none of this store for these models: then `load` is needed."""
        if not self.publisher.resume():
            return False
        manifest = self.publisher.manifest
        if manifest.revision > self.database.revision():  # a backup took the database's place
            return False
        self._synced, self._deletions = manifest.revision, manifest.deletions
        self._lengths = manifest.lengths
        return True

    def load(self, progress: Callable[[int], None] = lambda loaded: None) -> None:
        """Makes a copy of all rows; `progress` is called with the number read so far."""
        self.database.adopt()
        revision, deletions = self._changes()
        self.loaded = 0  # this may be a second attempt

        def read() -> Iterator[Batch]:
            for batch in self.database.batches():
                self.loaded += len(batch.ids)
                progress(self.loaded)
                yield batch

        self.publisher.rebuild(read(), revision=revision, deletions=deletions)
        self._synced, self._deletions = revision, deletions
        self._forget_deleted()
        self.refresh()
        self.publish()

    def publish(self, **about: Any) -> bool:
        """Publishes what has changed; see `Publisher.publish`. Where files of the copy are gone, or
        changes could not be published for long, all rows are read again."""
        try:
            if self.publisher.must_rebuild:
                self.load()
            return self.publisher.publish(
                revision=self._synced, deletions=self._deletions, lengths=self._lengths, **about
            )
        except FileNotFoundError as error:
            logger.warning("the store's copy is damaged, and made anew: %s", error)
            self.load()
            return True

    def observe(self, item: Learned) -> "Future[None]":
        """Records what a model did on a query, or that it gave an answer, or both.

        Args:
            item: an observation; an answer, to which feedback may come; or an observation with
                the answer that it was made of.

        Raises:
            StoreOverloaded: too many writes are waiting.
        """
        done: Future[None] = _future()
        self._submit(_Write(item, done))
        return done

    def score(self, id: str, score: float, *, replace: bool = True) -> "Future[Scored | None]":
        """Records the score of an answer, 0 to 1; with `replace`, instead of one that it has. The
        future's result is None if the id is unknown, or the score before stays.

        Raises:
            StoreOverloaded: too many writes are waiting.
            ValueError: the score is not between 0 and 1.
        """
        if not 0 <= score <= 1:
            raise ValueError(f"a score must be between 0 and 1, not {score}")
        done: Future[Scored | None] = _future()
        self._submit(_Score(id, score, replace, done))
        return done

    def sync(self) -> int:
        """Reads what other processes have written since the last call (another server during a
        redeployment, an import), drops rows that they deleted, and returns how many rows changed.

        Raises:
            DatabaseUnavailable: the database can't be reached; the next call reads the rest.
        """
        revision, deletions = self._changes()
        ids = self.database.changed_by_others(self._synced)
        if deletions != self._deletions:
            self.publish()
            self._forget_deleted()
        self.read_imported(ids)
        self._synced, self._deletions = revision, deletions
        return len(ids)

    def read_imported(self, ids: Sequence[int]) -> None:
        """Reads rows that an import or another process wrote, after attributing outcomes without
        an identity to the models served now.

        Raises:
            DatabaseUnavailable: the database can't be reached; the next call reads them.
        """
        self._unadopted.update(ids)  # kept until adopting them has worked
        if due := sorted(self._unadopted):
            self.database.adopt(due)
            # Not before: the next write's refresh also reads what is unread.
            self._unread.update(due)
            self._unadopted.difference_update(due)
            self.database.enforce_bounds()
        self.refresh()

    def refresh(self, ids: Iterable[int] = ()) -> None:
        """Reads rows for the next copy, in bounded parts, with those that could not be read before,
        and mean lengths.

        Raises:
            DatabaseUnavailable: the database can't be reached; the next call reads them.
        """
        due = sorted(self._unread.union(ids))
        # Before reading: rows that another thread fails to read from now on must stay due.
        self._unread.difference_update(due)
        try:
            for part in chunks(due, _BATCH):
                with self._refreshing:
                    self.publisher.put(self.database.batch(part))
            with self._refreshing:
                self._lengths = tuple(self.database.lengths())
        except Exception:  # whatever it is, the rows are still due
            self._unread.update(due)
            raise

    def retain(self) -> int:
        """Deletes what need not be kept any longer; returns how many queries that was."""
        return len(self.database.retain())

    def snapshot(self, ids: Sequence[int]) -> Snapshot:
        """These past queries with their texts, to fit a predictor on, without those deleted
        meanwhile."""
        rows = [row for part in chunks(ids, _BATCH) for row in self.database.read(part)]
        models, ageing = list(self.database.identities), Ageing.at_present(self.half_life_days)
        return snapshot_of_rows(rows, models, self.database.dimensions, ageing)

    def close(self) -> None:
        """Writes what is waiting, then closes the database."""
        with self._closing:
            self._is_closed = True
            self._waiting.put(None)
        self._writer.join()
        self.database.close()

    def _submit(self, item: _Write | _Score) -> None:
        with self._closing:
            if self._is_closed:  # nobody would write it
                raise DatabaseUnavailable("the store is closed")
            try:
                self._waiting.put_nowait(item)
            except queue.Full:
                raise StoreOverloaded(
                    f"{_MOST_WAITING} writes are already waiting for the database"
                ) from None

    def _write_all(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch: list[_Write | _Score] = [first]
            closing = False
            while len(batch) < _BATCH and not self._waiting.empty():
                item = self._waiting.get()
                if item is None:
                    closing = True
                    break
                batch.append(item)
            self._commit(batch)
            if closing:
                return

    def _commit(self, batch: Sequence[_Write | _Score]) -> None:
        with self._writing:
            self._settle([item for item in batch if isinstance(item, _Write)], self._write)
            scores = [item for item in batch if isinstance(item, _Score)]
            self._settle([item for item in scores if item.replace], self._score)
            self._settle([item for item in scores if not item.replace], self._score_unscored)

    def _changes(self) -> tuple[int, int]:
        """The database's revision and others' deletions, when all own writes wait or are public."""
        with self._writing:
            return self.database.revision(), self.database.deletions_by_others()

    def _settle(
        self, items: Sequence[Waiting], work: Callable[[Sequence[Waiting], bool], Done]
    ) -> None:
        """Writes items in one transaction, then resolves their futures."""
        if not items:
            return
        try:
            ids, results = _with_retries(lambda again: work(items, again))
        except Exception as error:  # whatever it is, it belongs to the futures
            if len(items) > 1 and not isinstance(error, _DATABASE_ERRORS):
                # One item is bad: find it, and write the others.
                self._settle(items[: len(items) // 2], work)
                self._settle(items[len(items) // 2 :], work)
                return
            logger.error("writing to the store's database failed", exc_info=error)
            for item in items:
                item.done.set_exception(error)
            return
        try:
            self.refresh(ids)
        except Exception as error:  # noqa: BLE001 - committed all the same, and read later
            logger.warning("reading back from the store's database failed: %s", error)
        for item, result in zip(items, results, strict=True):
            item.done.set_result(result)

    def _write(self, items: Sequence[_Write], again: bool) -> Done:
        # `again` doesn't matter: an observation with an answer counts once, however often written.
        return self.database.write([item.item for item in items]), [None] * len(items)

    def _score(self, items: Sequence[_Score], again: bool, replace: bool = True) -> Done:
        scores = [(item.id, item.score) for item in items]
        found = self.database.score(scores, again=again, replace=replace)
        ids = [known[0] for known in found if known and known[0] is not None]
        return ids, [known and known[1] for known in found]

    def _score_unscored(self, items: Sequence[_Score], again: bool) -> Done:
        return self._score(items, again, replace=False)

    def _forget(self, ids: Iterable[int]) -> None:
        with self._refreshing:
            self.publisher.remove(ids)

    def _forget_deleted(self) -> None:
        # In this order: rows written in between are not taken for deleted ones.
        known = self.publisher.ids()
        if known:
            self._forget(known - self.database.ids())


def _with_retries(work: Callable[[bool], T]) -> T:
    """The result of `work`, repeated while the database is unavailable. Its argument says whether
    this is a repetition: the attempt before may have been committed."""
    for attempt, pause in enumerate(_BACKOFF_S):
        try:
            return work(attempt > 0)
        except DatabaseUnavailable as error:
            logger.warning("the store's database is unavailable: %s", error)
            time.sleep(pause)
    return work(True)


def _future() -> "Future[Any]":
    """A future that can't be cancelled: a write in progress can't be taken back."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future
