"""The embedding store: a durable database, what is searched of it in memory, and one writer.

What a write's future gives was committed. Writes that wait while a transaction runs go into the
next one together, so that a durable commit, which costs milliseconds, is paid for once by many.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from deployments.store.errors import (
    DatabaseUnavailable,
    EmbeddingModelChanged,
    NoStore,
    StoreOverloaded,
)
from deployments.store.evidence import Snapshot
from deployments.store.memory.rows import Rows
from deployments.store.observations import AnswerRecord, Observation, Scored
from deployments.store.sql.chunks import chunks
from deployments.store.sql.database import Database

logger = logging.getLogger("ray.serve")

_MOST_WAITING = 10_000  # writes; beyond it `StoreOverloaded`
_MOST_TOGETHER = 512
_PAUSES_S = 0.1, 0.5, 2.0, 10.0  # between tries to write, while the database does not take it
_NO_ITEM_S_FAULT = DatabaseUnavailable, EmbeddingModelChanged, NoStore


@dataclass(frozen=True, slots=True)
class _Write:
    observation: Observation
    answer: AnswerRecord | None
    done: "Future[None]"


@dataclass(frozen=True, slots=True)
class _Score:
    id: str
    score: float
    done: "Future[Scored | None]"


T = TypeVar("T")
Item = TypeVar("Item", _Write, _Score)
Done = tuple[Sequence[int], Sequence[Any]]  # queries that were touched, and each item's result


class EmbeddingStore:
    """Past queries: durable, searched in memory, written by one thread.

    Args:
        database: where they are kept.
        models: whose outcomes are looked at.
        dimensions: of the embeddings.
    """

    def __init__(self, database: Database, models: Sequence[str], dimensions: int) -> None:
        self.database = database
        self.rows = Rows(models, dimensions)
        self.loaded = 0
        self._waiting: queue.Queue[_Write | _Score | None] = queue.Queue(_MOST_WAITING)
        self._synced = self._deletions = 0
        self._unread: set[int] = set()
        self._unadopted: set[int] = set()
        # So that no row comes back that was read before it was deleted, and put in afterwards.
        self._refreshing = threading.Lock()
        database.on_deleted = self._forget
        self._writer = threading.Thread(target=self._write_on, name="store-writer", daemon=True)
        self._writer.start()

    def load(self, progress: Callable[[int], None] = lambda loaded: None) -> None:
        """Reads all rows of the database into memory; `progress` gets how many there are so far."""
        self.database.adopt()
        revision, deletions = self.database.revision(), self.database.deletions_by_others()
        self.loaded = 0  # it may be a second try
        for batch in self.database.rows():
            self.rows.put(batch)
            self.loaded += len(batch)
            progress(self.loaded)
        self._forget_deleted()
        self._synced, self._deletions = revision, deletions

    def observe(
        self, observation: Observation, answer: AnswerRecord | None = None
    ) -> "Future[None]":
        """Writes what a model did on a query; `answer` is what feedback may come for.

        Raises:
            StoreOverloaded: too many writes wait.
        """
        done: Future[None] = _future()
        self._submit(_Write(observation, answer, done))
        return done

    def score(self, id: str, score: float) -> "Future[Scored | None]":
        """Writes what an answer was worth, 0 to 1; a second score replaces the first. The future
        gives None if no answer of this id is known.

        Raises:
            StoreOverloaded: too many writes wait.
            ValueError: the score is not between 0 and 1.
        """
        if not 0 <= score <= 1:
            raise ValueError(f"a score must be between 0 and 1, not {score}")
        done: Future[Scored | None] = _future()
        self._submit(_Score(id, score, done))
        return done

    def sync(self) -> int:
        """Takes in what other processes wrote to the database since last time, and says how many
        rows that was: another store during a redeployment, an import while the server runs. Rows
        that were deleted since are forgotten.

        Raises:
            DatabaseUnavailable: the database can't be reached; the next look takes in the rest.
        """
        revision, deletions = self.database.revision(), self.database.deletions_by_others()
        ids = self.database.changed_by_others(self._synced)
        if deletions != self._deletions:
            self._forget_deleted()
        self._synced, self._deletions = revision, deletions
        self.take_in(ids)
        return len(ids)

    def take_in(self, ids: Sequence[int]) -> None:
        """Takes in rows that others wrote, who don't say which models were behind the names.

        Raises:
            DatabaseUnavailable: the database can't be reached; they are read next time.
        """
        self._unadopted.update(ids)  # until it was done, which may fail
        if due := sorted(self._unadopted):
            self.database.adopt(due)
            # Only now: what is unread is read by the next write's refresh, too.
            self._unread.update(due)
            self._unadopted.difference_update(due)
            self.database.enforce_bounds()
        self.refresh()

    def refresh(self, ids: Iterable[int] = ()) -> None:
        """Reads rows from the database into memory, in bounded parts, and with them those that
        could not be read before.

        Raises:
            DatabaseUnavailable: the database can't be reached; they are read next time.
        """
        due = sorted(self._unread.union(ids))
        # Before the reading: what another thread fails to read from now on stays due.
        self._unread.difference_update(due)
        try:
            for part in chunks(due, _MOST_TOGETHER):
                with self._refreshing:
                    self.rows.put(self.database.read(part))
        except Exception:  # whatever it is, they are still due
            self._unread.update(due)
            raise

    def retain(self) -> int:
        """Deletes what is not to be kept, and says how many queries that was."""
        return len(self.database.retain())

    def snapshot(self, ids: Sequence[int]) -> Snapshot:
        """These past queries with their texts, to fit a predictor on; those deleted meanwhile are
        left out."""
        rows = [row for part in chunks(ids, _MOST_TOGETHER) for row in self.database.read(part)]
        return self.rows.snapshot(rows)

    def close(self) -> None:
        """Writes what waits, then closes the database."""
        self._waiting.put(None)
        self._writer.join()
        self.database.close()

    def _submit(self, item: _Write | _Score) -> None:
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            raise StoreOverloaded(f"{_MOST_WAITING} writes wait for the database") from None

    def _write_on(self) -> None:
        while (first := self._waiting.get()) is not None:
            together: list[_Write | _Score] = [first]
            ended = False
            while len(together) < _MOST_TOGETHER and not self._waiting.empty():
                item = self._waiting.get()
                if item is None:
                    ended = True
                    break
                together.append(item)
            self._commit(together)
            if ended:
                return

    def _commit(self, together: Sequence[_Write | _Score]) -> None:
        self._settle([item for item in together if isinstance(item, _Write)], self._write)
        self._settle([item for item in together if isinstance(item, _Score)], self._score)

    def _settle(self, items: Sequence[Item], work: Callable[[Sequence[Item], bool], Done]) -> None:
        """Writes items in one transaction, then tells who waits for them."""
        if not items:
            return
        try:
            ids, results = _persistently(lambda again: work(items, again))
        except Exception as error:  # whatever it is, who waits must hear of it
            if len(items) > 1 and not isinstance(error, _NO_ITEM_S_FAULT):
                # One of them is bad, and the others need not suffer for it.
                self._settle(items[: len(items) // 2], work)
                self._settle(items[len(items) // 2 :], work)
                return
            logger.error("the store's database did not take a write", exc_info=error)
            for item in items:
                item.done.set_exception(error)
            return
        try:
            self.refresh(ids)
        except Exception as error:  # noqa: BLE001 - it is committed all the same, and read later
            logger.warning("the store's database did not give back what it took: %s", error)
        for item, result in zip(items, results, strict=True):
            item.done.set_result(result)

    def _write(self, items: Sequence[_Write], again: bool) -> Done:
        # What comes with an answer counts once, however often it is written.
        ids = self.database.write(
            [(item.observation, item.answer) if item.answer else item.observation for item in items]
        )
        return ids, [None] * len(items)

    def _score(self, items: Sequence[_Score], again: bool) -> Done:
        found = self.database.score([(item.id, item.score) for item in items], again=again)
        ids = [known[0] for known in found if known and known[0] is not None]
        return ids, [known and known[1] for known in found]

    def _forget(self, ids: Iterable[int]) -> None:
        with self._refreshing:
            self.rows.remove(ids)

    def _forget_deleted(self) -> None:
        # Known ones first: what is written in between is there.
        known = self.rows.ids()
        if known:
            self._forget(known - self.database.ids())


def _persistently(work: Callable[[bool], T]) -> T:
    """What `work` gives; while the database is away it is tried again, and told so: what it did
    before may have been committed."""
    for tries, pause in enumerate(_PAUSES_S):
        try:
            return work(tries > 0)
        except DatabaseUnavailable as error:
            logger.warning("the store's database is away: %s", error)
            time.sleep(pause)
    return work(True)


def _future() -> "Future[Any]":
    """One that can't be cancelled: what is written can't be taken back by who no longer waits."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future
