"""The durable truth about past queries, in a SQL database."""

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select
from sqlalchemy.exc import DBAPIError

from deployments.store.errors import NoStore
from deployments.store.evidence import Floats32
from deployments.store.observations import (
    AnswerRecord,
    Observation,
    Scored,
    StoredRow,
    key_of,
)
from deployments.store.retention import Retention, excess
from deployments.store.sql.changes import Change, Place, Sums, plain
from deployments.store.sql.connections import Connections
from deployments.store.sql.forgetting import Selection, counted
from deployments.store.sql.reading import chunks, outcomes_of, stats_of
from deployments.store.sql.schema import (
    HEADER,
    answers,
    check,
    opened,
    outcomes,
    queries,
    read_header,
    state,
    write_header,
)
from deployments.store.sql.vectors import decoded, encoded

_CHUNK = 500  # values in one statement; SQLite takes some 32,000
_ROWS = 2048  # of one batch of all rows
_RECENT = 10_000  # queries that tell how many tokens a character is


class Database:
    """Past queries, what models did on them, and the answers that feedback may come for.

    Synchronous; may be shared by threads, and several may be open on one database, also in other
    processes and on other machines. A method that writes is one transaction, which is on the disk
    when the method returns.

    Args:
        url: `sqlite:///path`, `sqlite://` (in memory) or `postgresql://user:password@host/name`.
            SQLite needs a local disk.
        embedding_model: name of the model whose embeddings are kept; None takes what is there.
        dimensions: d of its embeddings.
        identities: of the models that are served, by their names (see `ModelConfig.identity`): of
            these names, what other models did under them is not read.
        retention: what is kept.

    Attributes:
        on_deleted: is called with the numbers of queries that a method has just deleted.

    Raises:
        EmbeddingModelChanged: the database holds embeddings of another model; methods raise it
            too, once the embeddings have been replaced under way.
        NoStore: there is none, and no model is given.
        ValueError: the database can't be opened, or is of a newer version or of something else.
        DatabaseUnavailable: by every method, where the database can't be reached any more.
    """

    def __init__(
        self,
        url: str,
        embedding_model: str | None = None,
        dimensions: int | None = None,
        *,
        identities: Mapping[str, str] | None = None,
        retention: Retention = Retention(),  # noqa: B008 - it can't be changed
    ) -> None:
        self.identities = dict(identities or {})
        self.retention = retention
        self.on_deleted: Callable[[list[int]], None] = lambda ids: None
        self._own_deletions = 0
        self._connections = Connections(url, create=embedding_model is not None)
        self.url = self._connections.shown  # without the password
        self._writer = secrets.randbits(63)
        try:
            with self._connections.writing() as connection:
                header = opened(connection, self.url, embedding_model, dimensions)
        except DBAPIError as error:  # such as of a role that may not make or change tables
            self._connections.close()
            raise self._connections.not_opened(error) from None
        except Exception:  # whatever it is, no connection may stay behind
            self._connections.close()
            raise
        self.embedding_model: str = header["embedding_model"]
        self.dimensions: int = header["dimensions"]

    def __repr__(self) -> str:
        return f"Database({self.url!r})"

    def write(
        self, observations: Sequence[Observation | tuple[Observation, AnswerRecord]]
    ) -> list[int]:
        """Adds what models did to what is known.

        What comes with an answer counts once: where the answer's id is there already, it was
        written before, and the pair may be written again after a transaction that may or may not
        have been committed. Its quality counts as its first score, which feedback replaces.

        Returns:
            The number of each query that was touched, once, in order of first mention.

        Raises:
            ValueError: an embedding is of other dimensions or not of length 1; nothing is written.
        """
        if not observations:
            return []
        items = [item if isinstance(item, tuple) else (item, None) for item in observations]
        keys = [key_of(observation.query) for observation, _ in items]
        rows = self._query_rows(keys, [observation for observation, _ in items])
        with self._changing() as change:
            ids = change.put_queries(rows)
            known = change.answers({answer.id for _, answer in items if answer}).keys()
            given: dict[str, tuple[int, AnswerRecord, float | None]] = {}
            sums: dict[Place, Sums] = {}
            for key, (seen, answer) in zip(keys, items, strict=True):
                if answer is not None:
                    if answer.id in known or answer.id in given:
                        continue
                    given[answer.id] = (ids[key], answer, seen.quality)
                place = (ids[key], seen.model, seen.source, seen.identity)
                if seen.replace or place not in sums:
                    sums[place] = Sums(seen.replace)
                sums[place].add(seen)
            change.put_outcomes(sums)
            change.put_answers(given.values())
            change.mark_scored(ids.values())
            change.keep_to(self.retention)
        return [ids[row["key"]] for row in rows]

    def score(
        self, scores: Sequence[tuple[str, float]], *, again: bool = False
    ) -> list[tuple[int | None, Scored] | None]:
        """Takes what feedback says of completions; a second score replaces the first.

        Args:
            scores: pairs of a completion's id and its quality, 0 to 1.
            again: they were given before, in a transaction that may or may not have been committed.
                A score that is there already is then taken for that one, as the answer's first.

        Returns:
            For each, the number of its query and what it was; None where the id is not known. The
            number is None where the query has been deleted since: then the score is lost to it.

        Raises:
            ValueError: a score is not between 0 and 1; nothing is written.
        """
        for _, score in scores:
            if not 0 <= score <= 1:
                raise ValueError(f"a score must be between 0 and 1, not {score!r}")
        if not scores:
            return []
        with self._changing() as change:
            known = change.answers({id for id, _ in scores})
            there = change.known({query_id for query_id, _, _ in known.values()})
            results: list[tuple[int | None, Scored] | None] = []
            sums: dict[Place, Sums] = {}
            for id, score in scores:
                if id not in known:
                    results.append(None)
                    continue
                query_id, answer, replaced = known[id]
                before = None if again and replaced == score else replaced
                scored = Scored(answer.model, answer.predicted, answer.policy, before)
                results.append((query_id if query_id in there else None, scored))
                if query_id in there:
                    place = (query_id, answer.model, "answers", answer.identity)
                    sums.setdefault(place, Sums()).rescore(replaced, score)
                known[id] = (query_id, answer, score)
            change.put_outcomes(sums)
            change.put_scores({id: score for id, (_, _, score) in known.items()})
            changed = {query_id for query_id, *_ in sums}
            change.touch(changed)
            change.mark_scored(changed)
        return results

    def adopt(self, ids: Sequence[int] | None = None) -> None:
        """Takes what old versions and imports wrote, which don't say which model was behind a name,
        as said of the models that are served now.

        Args:
            ids: numbers of the queries to look at; all, and all answers, where None.
        """
        if not self.identities:
            return
        if ids is not None:
            self._adopt(ids)
            return
        with self._changing() as change:
            change.adopt_answers(self.identities)
        unsaid = select(outcomes.c.query_id).distinct().order_by(outcomes.c.query_id).limit(_ROWS)
        unsaid = unsaid.where(outcomes.c.identity == "", outcomes.c.model.in_(self.identities))
        found: Sequence[int] = [0]
        while found:
            with self._reading() as connection:
                found = connection.scalars(unsaid.where(outcomes.c.query_id > found[-1])).all()
            self._adopt(found)

    def read(self, ids: Sequence[int]) -> list[StoredRow]:
        """These queries, by number; without those that are not there (any more)."""
        rows = []
        for part in chunks(sorted(set(ids)), _CHUNK):
            with self._reading() as connection:
                rows += self._rows(
                    connection, queries.c.id.in_(part), outcomes.c.query_id.in_(part)
                )
        return rows

    def rows(self) -> Iterator[list[StoredRow]]:
        """All queries, in batches by number. What is written meanwhile may be there or not."""
        last = 0
        while True:
            with self._reading() as connection:
                next_ids = select(queries.c.id).where(queries.c.id > last).order_by(queries.c.id)
                ids = connection.scalars(next_ids.limit(_ROWS)).all()
                if not ids:
                    return
                batch = self._rows(
                    connection,
                    queries.c.id.between(ids[0], ids[-1]),
                    outcomes.c.query_id.between(ids[0], ids[-1]),
                )
            last = ids[-1]
            yield batch

    def embeddings(self, texts: Sequence[str]) -> list[Floats32 | None]:
        """The stored embedding (d,) of each text; None where it is not a past query."""
        keys = [key_of(text) for text in texts]
        found: dict[bytes, Floats32] = {}
        for part in chunks(list(set(keys)), _CHUNK):
            with self._reading() as connection:
                wanted = select(queries.c.key, queries.c.embedding).where(queries.c.key.in_(part))
                stored = connection.execute(wanted).all()
            vectors = decoded([embedding for _, embedding in stored], self.dimensions)
            found |= zip((key for key, _ in stored), vectors, strict=True)
        return [found.get(key) for key in keys]

    def revision(self) -> int:
        """Number of the last transaction that changed or deleted a query."""
        return int(self._header()["revision"])

    def foreign_deletions(self) -> int:
        """How many transactions of others have deleted queries."""
        return int(self._header()["deletions"]) - self._own_deletions

    def foreign(self, since: int) -> list[int]:
        """Numbers of the queries that others changed last, after this revision.

        Ask for the revision first and for what others changed then: what comes between is seen
        twice rather than never.
        """
        wanted = select(queries.c.id).where(
            queries.c.revision > since, queries.c.writer != self._writer
        )
        with self._reading() as connection:
            return list(connection.scalars(wanted))

    def ids(self) -> set[int]:
        """Numbers of all queries."""
        with self._reading() as connection:
            return set(connection.scalars(select(queries.c.id)))

    def count(self) -> int:
        """How many queries there are."""
        with self._reading() as connection:
            return connection.scalar(select(func.count()).select_from(queries)) or 0

    def state(self, name: str) -> Any:
        """What was kept under this name; None if nothing."""
        with self._reading() as connection:
            value = connection.scalar(select(state.c.value).where(state.c.name == _own(name)))
        return None if value is None else json.loads(value)

    def states(self, prefix: str) -> dict[str, Any]:
        """What was kept under names that begin so."""
        wanted = select(state.c.name, state.c.value)
        wanted = wanted.where(state.c.name.startswith(prefix, autoescape=True))
        with self._reading() as connection:
            return {name: json.loads(value) for name, value in connection.execute(wanted)}

    def drop_states(self, names: Sequence[str]) -> None:
        """Forgets what was kept under these names."""
        if names:
            wanted = state.c.name.in_([_own(name) for name in names])
            with self._connections.writing() as connection:
                connection.execute(delete(state).where(wanted))

    def set_state(self, name: str, value: Any) -> None:
        """Keeps something small that JSON can hold.

        Raises:
            TypeError, ValueError: JSON can't hold it.
        """
        insert = self._connections.dialect.insert(state)
        replace = insert.on_conflict_do_update(
            index_elements=["name"], set_={"value": insert.excluded.value}
        )
        row = {"name": _own(name), "value": json.dumps(value, allow_nan=False)}
        with self._connections.writing() as connection:
            connection.execute(replace, row)

    def retain(self) -> list[int]:
        """Deletes what is not to be kept any longer, in bounded transactions.

        Returns:
            Numbers of the queries that were deleted.
        """
        deleted: list[int] = []
        days, now = self.retention.most_days, time.time()
        late = answers.c.at < now - self.retention.answer_hours * 3600
        with self._changing() as change:
            change.count()
        gone = 1
        while gone:
            with self._changing() as change:
                gone = change.delete_answers(late, _CHUNK) + change.keep_to(self.retention)
                if days is not None:
                    old = queries.c.updated_at < now - days * 86400
                    gone += change.delete_queries(old, _CHUNK)
            deleted += change.deleted
        return deleted

    def keep_to_bounds(self) -> None:
        """Deletes what is beyond the bounds, where others have written who don't keep to them."""
        gone = 1
        while gone and excess(self._header()["queries"], self.retention.most_queries):
            with self._changing() as change:
                gone = change.keep_to(self.retention)

    def forgettable(self, selection: Selection) -> dict[str, int]:
        """How much `forget` would delete; see `forgetting.counted`."""
        with self._reading() as connection:
            return counted(connection, selection, time.time())

    def forget(self, selection: Selection) -> None:
        """Deletes what models did, in bounded transactions, and the queries of which nothing else
        is known. Feedback for the answers of which that was no longer counts."""
        answered, last, gone = selection.answers(time.time()), 0, 1
        while gone:
            with self._changing() as change:
                gone = change.delete_answers(answered, _CHUNK)
        while True:
            with self._changing() as change:
                ids = change.forget(selection.outcomes(), last, _CHUNK)
            if not ids:
                return
            last = ids[-1]

    def tokens_per_character(self) -> float | None:
        """Of the prompts of the latest queries whose tokens are known; None where none are."""
        recent = (
            select(queries.c.input_tokens, queries.c.characters)
            .order_by(queries.c.revision.desc())
            .limit(_RECENT)
            .subquery()
        )
        both = recent.c.input_tokens.is_not(None) & recent.c.characters.is_not(None)
        sums = select(func.sum(recent.c.input_tokens), func.sum(recent.c.characters)).where(both)
        with self._reading() as connection:
            tokens, characters = connection.execute(sums).one()
        return float(tokens) / float(characters) if tokens and characters else None

    def stats(self) -> dict[str, Any]:
        """What is in it, for people to read; see `stats_of`."""
        with self._reading() as connection:
            stats = stats_of(connection, self._connections.dialect)
        about = {"url": self.url, "embedding_model": self.embedding_model}
        return about | {"dimensions": self.dimensions} | stats

    def close(self) -> None:
        """Ends the connections. Nothing is lost without it."""
        self._connections.close()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._connections.reading() as connection:
            yield connection
            # Last: if the embeddings are ours even now, so were those that were read before.
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

    def _adopt(self, ids: Sequence[int]) -> None:
        for part in chunks(ids, _CHUNK):
            with self._changing() as change:
                change.adopt(self.identities, outcomes.c.query_id.in_(part))

    def _header(self) -> dict[str, Any]:
        with self._connections.reading() as connection:
            return self._check(read_header(connection))

    def _check(self, header: dict[str, Any] | None) -> dict[str, Any]:
        if header is None:
            raise NoStore(f"there is no store at {self.url} any more")
        check(header, self.url, self.embedding_model, self.dimensions)
        return header

    def _query_rows(
        self, keys: Sequence[bytes], observations: Sequence[Observation]
    ) -> list[dict[str, Any]]:
        rows: dict[bytes, dict[str, Any]] = {}
        for key, observation in zip(keys, observations, strict=True):
            row = rows.setdefault(key, {"key": key, "text": observation.query})
            row.setdefault("embedding", observation.embedding)
            known = observation.input_tokens is not None
            if known or "input_tokens" not in row:
                row["input_tokens"] = plain(observation.input_tokens)
                row["characters"] = plain(observation.characters)
        vectors = encoded([row["embedding"] for row in rows.values()], self.dimensions)
        for row, vector in zip(rows.values(), vectors, strict=True):
            row["embedding"] = vector
        return list(rows.values())

    def _rows(
        self,
        connection: Connection,
        which_queries: ColumnElement[bool],
        which_outcomes: ColumnElement[bool],
    ) -> list[StoredRow]:
        names = ("id", "text", "input_tokens", "revision", "embedding")
        columns = [queries.c[name] for name in names]
        # Before the outcomes: what is read meanwhile may be newer than its revision, never older.
        stored = connection.execute(
            select(*columns).where(which_queries).order_by(queries.c.id)
        ).all()
        known = outcomes_of(connection, which_outcomes, self.identities)
        vectors = decoded([embedding for *_, embedding in stored], self.dimensions)
        return [
            StoredRow(id, text, vector, known.get(id, {}), tokens, revision)
            for (id, text, tokens, revision, _), vector in zip(stored, vectors, strict=True)
        ]


def _own(name: str) -> str:
    if name == HEADER:
        raise ValueError(f"the name '{HEADER}' is the database's own")
    return name
