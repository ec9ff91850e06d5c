"""One transaction that changes past queries: what it adds up, and its statements."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, case, delete, select, update

from deployments.store.observations import Answer, Observation, stored_text
from deployments.store.reading import chunks
from deployments.store.schema import answers, outcomes, queries

CHUNK = 500  # values in one statement; SQLite takes some 32,000
_SUMS = ("quality_sum", "scored", "tokens_sum", "counted", "seconds_sum", "timed", "answers")

Place = tuple[int, str, str]  # number of the query, model, source: the key of `outcomes`


@dataclass(slots=True)
class Sums:
    """What is to be added to one row of `outcomes`, or to take its place."""

    replace: bool = False
    quality_sum: float = 0.0
    scored: int = 0
    tokens_sum: float = 0.0
    counted: int = 0
    seconds_sum: float = 0.0
    timed: int = 0
    answers: int = 0

    def add(self, seen: Observation) -> None:
        """Counts an observation in."""
        count = int(seen.count)
        self.answers += count
        if seen.quality is not None:
            self.quality_sum += float(seen.quality) * count
            self.scored += count
        if seen.output_tokens is not None:
            self.tokens_sum += float(seen.output_tokens) * count
            self.counted += count
        if seen.seconds is not None:
            self.seconds_sum += float(seen.seconds) * count
            self.timed += count

    def rescore(self, replaced: float | None, score: float) -> None:
        """Counts a score in, instead of the one that the answer had before."""
        self.quality_sum += float(score) - (replaced or 0.0)
        self.scored += replaced is None


def plain(value: float | None) -> float | None:
    """Without NumPy's type, of which SQLite would keep the bytes."""
    return None if value is None else float(value)


class Change:
    """Statements of one transaction; every query that it touches is marked with its revision.

    Args:
        connection: in a transaction that writes.
        insert: the dialect's own, which has `on_conflict_do_update`.
        revision: the transaction's number.
        writer: the Database object that it is of.
    """

    def __init__(
        self, connection: Connection, insert: Callable[..., Any], revision: int, writer: int
    ) -> None:
        self._connection = connection
        self._insert = insert
        self._now = time.time()
        self._marks = {"revision": revision, "writer": writer, "updated_at": self._now}

    def put_queries(self, rows: Sequence[Mapping[str, Any]]) -> dict[bytes, int]:
        """Adds queries, or marks those that are there; the number of each by its key."""
        insert = self._insert(queries)
        new = insert.excluded
        known = new.input_tokens.is_not(None)
        upsert = insert.on_conflict_do_update(
            index_elements=["key"],
            set_={name: new[name] for name in self._marks}
            | {
                "input_tokens": case((known, new.input_tokens), else_=queries.c.input_tokens),
                "characters": case((known, new.characters), else_=queries.c.characters),
            },
        ).returning(queries.c.key, queries.c.id)
        marked = [{**row, **self._marks} for row in rows]
        return {bytes(key): id for key, id in self._connection.execute(upsert, marked)}

    def put_outcomes(self, sums: Mapping[Place, Sums]) -> None:
        """Adds sums to what is there, or puts them in its place."""
        insert = self._insert(outcomes)
        new = insert.excluded
        for replace in (False, True):
            rows = [
                {"query_id": query_id, "model": model, "source": source, "updated_at": self._now}
                | {name: getattr(total, name) for name in _SUMS}
                for (query_id, model, source), total in sums.items()
                if total.replace == replace
            ]
            after = {n: new[n] if replace else outcomes.c[n] + new[n] for n in _SUMS}
            upsert = insert.on_conflict_do_update(
                index_elements=["query_id", "model", "source"],
                set_=after | {"updated_at": new.updated_at},
            )
            if rows:
                self._connection.execute(upsert, rows)

    def put_answers(self, given: Iterable[tuple[int, Answer, float | None]]) -> None:
        """Keeps new answers, each with the number of its query and its score."""
        rows = [
            {
                "id": answer.id,
                "query_id": query_id,
                "model": answer.model,
                "predicted": plain(answer.predicted),
                "policy": answer.policy,
                "cost": plain(answer.cost),
                "score": plain(score),
                "at": self._now,
            }
            for query_id, answer, score in given
        ]
        if rows:
            self._connection.execute(self._insert(answers), rows)

    def put_scores(self, scores: Mapping[str, float | None]) -> None:
        """Sets the scores of answers that are there, by id."""
        rescored = update(answers).where(answers.c.id == bindparam("answer"))
        rows = [{"answer": id, "score": plain(score)} for id, score in scores.items()]
        if rows:
            self._connection.execute(rescored, rows)

    def answers(self, ids: Iterable[str]) -> dict[str, tuple[int, Answer, float | None]]:
        """The number of its query, the answer and its score, for each id that is known."""
        columns = [answers.c[n] for n in ("id", "model", "predicted", "policy", "cost")]
        found: dict[str, tuple[int, Answer, float | None]] = {}
        # No text that a database can't hold is an id: feedback brings whatever a caller wrote.
        for part in chunks(sorted(id for id in ids if id == stored_text(id)), CHUNK):
            wanted = select(answers.c.query_id, answers.c.score, *columns)
            for query_id, score, *answer in self._connection.execute(
                wanted.where(answers.c.id.in_(part))
            ):
                found[answer[0]] = (query_id, Answer(*answer), score)
        return found

    def delete_queries(self, ids: Sequence[int], revision: int) -> list[int]:
        """Deletes those of the queries that were not touched after a revision; their ids."""
        untouched = queries.c.id.in_(ids) & (queries.c.revision <= revision)
        gone = delete(queries).where(untouched).returning(queries.c.id)
        return list(self._connection.scalars(gone))

    def touch(self, ids: Iterable[int]) -> None:
        """Marks queries as changed."""
        for part in chunks(sorted(ids), CHUNK):
            touched = update(queries).where(queries.c.id.in_(part)).values(**self._marks)
            self._connection.execute(touched)
