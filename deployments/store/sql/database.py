"""The durable record of past queries, in a SQL database."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import DBAPIError

from deployments.store.errors import NoStore
from deployments.store.evidence import Floats32
from deployments.store.observations import (
    AnswerRecord,
    Learned,
    MeanLength,
    Scored,
    StoredRow,
    key_of,
)
from deployments.store.retention import Retention, excess
from deployments.store.sql.changes import Change
from deployments.store.sql.choices import Choices, choices_of
from deployments.store.sql.chunks import CHUNK, chunks
from deployments.store.sql.connections import Connections
from deployments.store.sql.forgetting import Selection, counted
from deployments.store.sql.header import check, opened, read_header, write_header
from deployments.store.sql.owners import Owners
from deployments.store.sql.reading import (
    NOTHING,
    Batch,
    Stored,
    batch_of,
    lengths_of,
    rows_of,
    stats_of,
    stored_of,
    tokens_per_character_of,
    told_of,
)
from deployments.store.sql.recording import query_rows, record, rescore
from deployments.store.sql.schema import answers, outcomes, queries
from deployments.store.sql.state import State
from deployments.store.sql.vectors import decoded

_ROWS = 2048  # in one batch of `rows`


class Database:
    """Past queries, what models did on them, and the answers that feedback may come for.

    Synchronous; may be shared by threads, and several may be open on one database, also in other
    processes and on other machines. A method that writes runs in one transaction, which is on the
    disk when the method returns.

    Args:
        url: `sqlite:///path`, `sqlite://` (in memory) or `postgresql://user:password@host/name`.
            SQLite needs a local disk.
        embedding_model: name of the model whose embeddings are kept; None takes any, but makes no
            new store.
        dimensions: of its embeddings.
        identities: which model each name stands for (see `ModelConfig.identity`); what other
            models did under these names is not read.
        retention: how much is kept.

    Attributes:
        url: without its secrets.
        id: random, the same for as long as the store exists.
        state, owners: small values kept between runs; whose answers are known.
        on_deleted: called with the numbers of queries that a method has just deleted.

    Raises:
        EmbeddingModelChanged: the database holds embeddings of a different model. Methods raise it
            too, once the embeddings have been replaced meanwhile.
        NoStore: there is no store, and no model is given.
        ValueError: the database can't be opened, comes from a newer version, or is not a store.
        DatabaseUnavailable: by every method, when the database can't be reached.
    """

    def __init__(
        self,
        url: str,
        embedding_model: str | None = None,
        dimensions: int | None = None,
        *,
        identities: Mapping[str, str] | None = None,
        retention: Retention = Retention(),  # noqa: B008 - immutable
    ) -> None:
        self.identities = dict(identities or {})
        self.retention = retention
        self.on_deleted: Callable[[list[int]], None] = lambda ids: None
        self._connections = Connections(url, create=embedding_model is not None)
        self.url = self._connections.shown
        self.state, self.owners = State(self._connections), Owners(self._connections)
        self._own_deletions, self._writer = 0, secrets.randbits(63)
        try:
            with self._connections.writing() as connection:
                header = opened(connection, self.url, embedding_model, dimensions)
        except DBAPIError as error:  # such as a role that may not create or alter tables
            self._connections.close()
            raise self._connections.not_opened(error) from None
        except Exception:  # whatever it is, no connection may be left open
            self._connections.close()
            raise
        self.id: str = header["id"]
        self.embedding_model: str = header["embedding_model"]
        self.dimensions: int = header["dimensions"]

    def __repr__(self) -> str:
        return f"Database({self.url!r})"

    def write(self, items: Sequence[Learned]) -> list[int]:
        """Adds observations to what is known, and answers to those that feedback may come for.

        An observation with an answer counts once: if the answer's id is known, it was written
        before, so a write may be repeated when it is unclear whether it was committed. Its quality
        counts as the answer's first score, which feedback replaces.

        An answer alone is one whose query is not kept; `score` knows it all the same.

        Returns:
            The number of each query that was touched, once, in order of first mention.

        Raises:
            ValueError: an embedding has other dimensions or is not of length 1; nothing is written.
        """
        if not items:
            return []
        alone = [item for item in items if isinstance(item, AnswerRecord)]
        observed = [
            item if isinstance(item, tuple) else (item, None)
            for item in items
            if not isinstance(item, AnswerRecord)
        ]
        keys = [key_of(observation.query) for observation, _ in observed]
        rows = query_rows(keys, observed, self.dimensions)
        with self._changing() as change:
            ids = change.put_queries(rows)
            record(change, [ids[key] for key in keys], observed, alone, self.identities)
            change.enforce(self.retention)
        return [ids[row["key"]] for row in rows]

    def score(
        self, scores: Sequence[tuple[str, float]], *, again: bool = False, replace: bool = True
    ) -> list[tuple[int | None, Scored] | None]:
        """Sets the scores of answers.

        Args:
            scores: pairs of an answer's id and its quality, 0 to 1.
            again: this repeats a call of which it is unclear whether it was committed. A score that
                is already stored then counts as the one being written, not as one it replaces.
            replace: whether a score replaces one that the answer has. If not, that one stays, and
                the score is one that the answer gets by itself.

        Returns:
            For each score, the number of the query and what was scored; None if the id is unknown,
            or the score before stays.
            The number is None if the query has been deleted, or was never kept: no outcomes then
            change.

        Raises:
            ValueError: a score is not between 0 and 1; nothing is written.
        """
        for _, score in scores:
            if not 0 <= score <= 1:
                raise ValueError(f"a score must be between 0 and 1, not {score!r}")
        if not scores:
            return []
        with self._changing() as change:
            return rescore(change, scores, again, replace, self.identities)

    def adopt(self, ids: Sequence[int] | None = None) -> None:
        """Attributes outcomes without an identity, as old versions and imports write them, to the
        models that are served under their names now.

        Args:
            ids: numbers of the queries to look at; None is all of them, and all answers.
        """
        if not self.identities:
            return
        if ids is not None:
            self._adopt(ids)
            return
        with self._changing() as change:
            change.adopt_answers(self.identities)
        without = select(outcomes.c.query_id).distinct().order_by(outcomes.c.query_id).limit(_ROWS)
        without = without.where(outcomes.c.identity == "", outcomes.c.model.in_(self.identities))
        found: Sequence[int] = [0]
        while found:
            with self._reading() as connection:
                found = connection.scalars(without.where(outcomes.c.query_id > found[-1])).all()
            self._adopt(found)

    def read(self, ids: Sequence[int]) -> list[StoredRow]:
        """The queries of these numbers that exist, in order of number."""
        rows: list[StoredRow] = []
        for part in chunks(sorted(set(ids))):
            which = queries.c.id.in_(part), outcomes.c.query_id.in_(part)
            with self._reading() as connection:
                rows += rows_of(connection, *which, self.identities, self.dimensions)
        return rows

    def rows(self) -> Iterator[list[StoredRow]]:
        """All queries, in batches by number, with or without what is written meanwhile."""
        for span in self._spans():
            which = queries.c.id.between(*span), outcomes.c.query_id.between(*span)
            with self._reading() as connection:
                batch = rows_of(connection, *which, self.identities, self.dimensions)
            yield batch

    def batch(self, ids: Sequence[int], models: Sequence[str] | None = None) -> Batch:
        """What `read` gives, as arrays without the texts, which is several times as fast.

        Args:
            ids: numbers of queries; those that don't exist are left out.
            models: whose outcomes are read; None is those in `identities`.
        """
        models = list(self.identities) if models is None else models
        stored: list[Stored] = []
        told = [NOTHING]
        for part in chunks(sorted(set(ids))):
            which = outcomes.c.query_id.in_(part)
            with self._reading() as connection:
                stored += stored_of(connection, queries.c.id.in_(part))
                told.append(told_of(connection, which, models, self.identities))
        return batch_of(stored, np.concatenate(told), models, self.dimensions)

    def batches(self, models: Sequence[str] | None = None) -> Iterator[Batch]:
        """What `rows` gives, as arrays without the texts; `models` is as for `batch`."""
        models = list(self.identities) if models is None else models
        for span in self._spans():
            which = outcomes.c.query_id.between(*span)
            with self._reading() as connection:
                stored = stored_of(connection, queries.c.id.between(*span))
                told = told_of(connection, which, models, self.identities)
            yield batch_of(stored, told, models, self.dimensions)

    def embeddings(self, texts: Sequence[str]) -> list[Floats32 | None]:
        """The stored embedding (d,) of each text; None if it is not a past query."""
        keys = [key_of(text) for text in texts]
        found: dict[bytes, Floats32] = {}
        for part in chunks(list(set(keys))):
            with self._reading() as connection:
                wanted = select(queries.c.key, queries.c.embedding).where(queries.c.key.in_(part))
                stored = connection.execute(wanted).all()
            vectors = decoded([embedding for _, embedding in stored], self.dimensions)
            found |= zip((key for key, _ in stored), vectors, strict=True)
        return [found.get(key) for key in keys]

    def revision(self) -> int:
        """Number of the last transaction that changed or deleted a query."""
        return int(self._header()["revision"])

    def deletions_by_others(self) -> int:
        """How many transactions of other `Database` objects have deleted queries."""
        return int(self._header()["deletions"]) - self._own_deletions

    def changed_by_others(self, since: int) -> list[int]:
        """Numbers of the queries that other `Database` objects changed last, after a revision.

        Read the revision before calling this: what changes in between is then seen twice rather
        than never.
        """
        wanted = select(queries.c.id).where(
            queries.c.revision > since, queries.c.writer != self._writer
        )
        with self._reading() as connection:
            return list(connection.scalars(wanted))

    def ids(self) -> set[int]:
        """The numbers of all queries."""
        with self._reading() as connection:
            return set(connection.scalars(select(queries.c.id)))

    def count(self) -> int:
        """How many queries there are."""
        with self._reading() as connection:
            return connection.scalar(select(func.count()).select_from(queries)) or 0

    def retain(self) -> list[int]:
        """Deletes what need not be kept any longer, in bounded transactions.

        Returns:
            The numbers of the queries that were deleted.
        """
        deleted: list[int] = []
        days, now = self.retention.most_days, time.time()
        late = answers.c.at < now - self.retention.answer_hours * 3600
        with self._changing() as change:
            change.count()
        gone = 1
        while gone:
            with self._changing() as change:
                gone = change.delete_answers(late, CHUNK) + change.enforce(self.retention)
                if days is not None:
                    gone += change.delete_untouched(now - days * 86400, CHUNK)
            deleted += change.deleted
        return deleted

    def enforce_bounds(self) -> None:
        """Deletes what exceeds the bounds, after others have written without enforcing them."""
        gone = 1
        while gone and excess(self._header()["queries"], self.retention.most_queries):
            with self._changing() as change:
                gone = change.enforce(self.retention)

    def forgettable(self, selection: Selection) -> dict[str, int]:
        """How much `forget` would delete; see `forgetting.counted`."""
        with self._reading() as connection:
            return counted(connection, selection, time.time())

    def forget(self, selection: Selection) -> None:
        """Deletes what models did, and the queries of which nothing else is known, in bounded
        transactions. Feedback for the answers concerned no longer counts."""
        answered, last, gone = selection.answers(time.time()), 0, 1
        while gone:
            with self._changing() as change:
                gone = change.delete_answers(answered, CHUNK)
                change.delete_lengths(selection.lengths())
        while True:
            with self._changing() as change:
                ids = change.forget(selection.outcomes(), last, CHUNK)
            if not ids:
                return
            last = ids[-1]

    def tokens_per_character(self) -> float | None:
        """In the prompts of the latest queries whose tokens are known; None if none are."""
        with self._reading() as connection:
            return tokens_per_character_of(connection)

    def choices(self, most: int, most_queries: int) -> Choices:
        """Which models were chosen, and what came of it; see `choices_of`."""
        with self._reading() as connection:
            return choices_of(connection, self.identities, most, most_queries)

    def lengths(self) -> list[MeanLength]:
        """Mean lengths of answers of other shapes than text, of the models in `identities`."""
        with self._reading() as connection:
            return lengths_of(connection, self.identities)

    def stats(self) -> dict[str, Any]:
        """Statistics for people to read; see `stats_of`."""
        with self._reading() as connection:
            stats = stats_of(connection, self._connections.dialect)
        about = {"url": self.url, "embedding_model": self.embedding_model}
        return about | {"dimensions": self.dimensions} | stats

    def close(self) -> None:
        """Closes the connections. Nothing is lost without it."""
        self._connections.close()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._connections.reading() as connection:
            yield connection
            # Last: if the embeddings are still our model's now, those read before were too.
            self._check(read_header(connection))

    @contextmanager
    def _changing(self) -> Iterator[Change]:
        with self._connections.writing() as connection:
            header = self._check(read_header(connection))
            header["revision"] += 1
            change = Change(connection, self._connections.dialect, header, self._writer)
            yield change
            header["deletions"] += bool(change.deleted)
            write_header(connection, header)
        if change.deleted:
            self._own_deletions += 1
            self.on_deleted(change.deleted)

    def _spans(self) -> Iterator[tuple[int, int]]:
        """The first and the last number of each batch of queries."""
        last = 0
        following = select(queries.c.id).order_by(queries.c.id).limit(_ROWS)
        while True:
            with self._reading() as connection:
                ids = connection.scalars(following.where(queries.c.id > last)).all()
            if not ids:
                return
            last = ids[-1]
            yield ids[0], last

    def _adopt(self, ids: Sequence[int]) -> None:
        for part in chunks(ids):
            with self._changing() as change:
                change.adopt(self.identities, outcomes.c.query_id.in_(part))

    def _header(self) -> dict[str, Any]:
        with self._connections.reading() as connection:
            return self._check(read_header(connection))

    def _check(self, header: dict[str, Any] | None) -> dict[str, Any]:
        if header is None:
            raise NoStore(f"there is no longer a store at {self.url}")
        check(header, self.url, self.embedding_model, self.dimensions)
        return header
