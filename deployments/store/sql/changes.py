"""The statements of one transaction that changes past queries."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    exists,
    func,
    literal,
    select,
    true,
    update,
)

from deployments.store.observations import AnswerRecord, stored_text
from deployments.store.retention import Retention, excess
from deployments.store.sql import statements
from deployments.store.sql.chunks import chunks
from deployments.store.sql.dialects.dialect import Dialect
from deployments.store.sql.schema import answers, lengths, outcomes, queries
from deployments.store.sql.sums import KEY, LENGTH_KEY, LENGTH_SUMS, SUMS, LengthPlace, Place, Sums

_AHEAD = 1000  # rows that one write may delete beyond the number that it adds


def plain(value: float | None) -> float | None:
    """The number as a Python float: SQLite would store a NumPy float as bytes."""
    return None if value is None else float(value)


class Change:
    """The statements of one transaction. Each query that it touches gets the new revision.

    Args:
        connection: in a transaction that writes.
        dialect: of the database.
        header: of the database; its counts are updated here.
        writer: number of the `Database` object that makes the change.

    Attributes:
        now: when it began, in Unix seconds.
        deleted: numbers of the queries deleted so far.
    """

    def __init__(
        self,
        connection: Connection,
        dialect: Dialect,
        header: dict[str, Any],
        writer: int,
    ) -> None:
        self._connection = connection
        self._dialect = dialect
        self._header = header
        self.now = time.time()
        revision = header["revision"]
        self._marks = {"revision": revision, "writer": writer, "updated_at": self.now}
        self._new_queries = self._new_answers = 0
        self.deleted: list[int] = []

    def put_queries(self, rows: Sequence[Mapping[str, Any]]) -> dict[bytes, int]:
        """Adds queries, touches those that exist, and gives the number of each by its key."""
        if not rows:
            return {}
        marked = [{**row, **self._marks} for row in rows]
        newest = self._connection.scalar(statements.newest_query) or 0
        put = self._connection.execute(statements.put_queries(self._dialect), marked)
        ids = {bytes(key): id for key, id in put}
        new = sum(id > newest for id in ids.values())  # numbers only ever rise
        self._new_queries += new
        self._header["queries"] += new
        return ids

    def put_outcomes(self, sums: Mapping[Place, Sums]) -> None:
        """Adds sums to outcomes. Where a sum replaces, what its source said before about this
        model on this query is deleted first, whichever model the name stood for then."""
        replaced = [place for place, total in sums.items() if total.replace]
        if replaced:
            gone = delete(outcomes)
            for number, name in enumerate(KEY[:3]):
                gone = gone.where(outcomes.c[name] == bindparam(f"at_{number}"))
            places = {place[:3] for place in replaced}
            keys = [{f"at_{n}": value for n, value in enumerate(place)} for place in places]
            self._connection.execute(gone, keys)
        rows = [
            dict(zip(KEY, place, strict=True), updated_at=self.now)
            | {name: getattr(total, name) for name in (*SUMS, "said", "scored_at")}
            for place, total in sums.items()
        ]
        if rows:
            self._connection.execute(statements.add_outcomes(self._dialect), rows)

    def put_lengths(self, sums: Mapping[LengthPlace, Sums]) -> None:
        """Adds sums to lengths."""
        rows = [
            dict(zip(LENGTH_KEY, place, strict=True), updated_at=self.now)
            | {name: getattr(total, name) for name in LENGTH_SUMS}
            for place, total in sums.items()
        ]
        if rows:
            self._connection.execute(statements.add_lengths(self._dialect), rows)

    def delete_lengths(self, which: ColumnElement[bool]) -> None:
        """Deletes lengths. There are few: some for each model."""
        self._connection.execute(delete(lengths).where(which))

    def adopt(self, identities: Mapping[str, str], which: ColumnElement[bool]) -> None:
        """Attributes outcomes without an identity to the models that have their names now."""
        unsaid = (outcomes.c.identity == "") & which
        names = list(self._connection.scalars(select(outcomes.c.model).where(unsaid).distinct()))
        for model in identities.keys() & names:
            mine = unsaid & (outcomes.c.model == model)
            columns: dict[str, ColumnElement[Any]] = {c.name: c for c in outcomes.c}
            columns["identity"] = literal(identities[model])
            insert = self._dialect.insert(outcomes).from_select(
                list(columns), select(*columns.values()).where(mine)
            )
            self._connection.execute(statements.adding(insert))
            self._connection.execute(delete(outcomes).where(mine))

    def adopt_answers(self, identities: Mapping[str, str]) -> None:
        """The same for all answers awaiting feedback."""
        unsaid = answers.c.identity == ""
        names = list(self._connection.scalars(select(answers.c.model).where(unsaid).distinct()))
        for model in identities.keys() & names:
            mine = update(answers).where(unsaid, answers.c.model == model)
            self._connection.execute(mine.values(identity=identities[model]))

    def put_answers(self, given: Iterable[tuple[int, AnswerRecord, float | None]]) -> None:
        """Adds answers, each with the number of its query and its score."""
        rows = [
            {
                "id": answer.id,
                "query_id": query_id,
                "model": answer.model,
                "identity": answer.identity,
                "predicted": plain(answer.predicted),
                "policy": answer.policy,
                "chosen": answer.chosen,
                "propensity": answer.propensity,
                "key": answer.key,
                "cost": plain(answer.cost),
                "score": plain(score),
                "at": self.now,
            }
            for query_id, answer, score in given
        ]
        if rows:
            self._connection.execute(statements.insert_answers, rows)
            self._new_answers += len(rows)
            self._header["answers"] += len(rows)

    def put_scores(self, scores: Mapping[str, float], *, rated: bool) -> None:
        """Sets the scores of answers, by id; `rated` says whether they got them by themselves."""
        rows = [
            {"answer": id, "score": plain(score), "rated": rated} for id, score in scores.items()
        ]
        if rows:
            self._connection.execute(statements.rescore_answers, rows)

    def answers(self, ids: Iterable[str]) -> dict[str, tuple[int, AnswerRecord, float | None]]:
        """For each known id, the number of its query, the answer, and its score."""
        found: dict[str, tuple[int, AnswerRecord, float | None]] = {}
        # Feedback brings whatever a caller wrote; a text that no database can hold is not an id.
        for part in chunks(sorted(id for id in ids if id == stored_text(id))):
            known = self._connection.execute(statements.known_answers, {"ids": part})
            for query_id, score, *answer in known:
                found[answer[0]] = (query_id, AnswerRecord(*answer), score)
        return found

    def existing(self, ids: Iterable[int]) -> set[int]:
        """The numbers among `ids` whose queries exist."""
        found: set[int] = set()
        for part in chunks(sorted(ids)):
            found.update(self._connection.scalars(statements.existing_queries, {"ids": part}))
        return found

    def touch(self, ids: Iterable[int]) -> None:
        """Gives queries the new revision."""
        for part in chunks(sorted(ids)):
            self._connection.execute(statements.touch_queries, {"ids": part, **self._marks})

    def mark_scored(self, ids: Iterable[int]) -> None:
        """Updates which of the queries have a score; call it after changing their outcomes."""
        for part in chunks(sorted(ids)):
            self._connection.execute(statements.mark_scored, {"ids": part})

    def enforce(self, retention: Retention) -> int:
        """Deletes queries and answers beyond the bounds, and returns how many: at least as many as
        were added, but not many more, so that no transaction takes long."""
        gone, over = 0, excess(self._header["queries"], retention.most_queries)
        if over:
            gone += self._evict(min(over, self._new_queries + _AHEAD), retention.unscored)
        over = excess(self._header["answers"], retention.most_answers)
        if over:
            gone += self.delete_answers(true(), min(over, self._new_answers + _AHEAD))
        return gone

    def delete_queries(self, which: ColumnElement[bool], most: int) -> int:
        """Deletes at most `most` of the queries, least recently touched first; returns how
        many."""
        order = (queries.c.revision, queries.c.id)
        found = select(queries.c.id).where(which).order_by(*order).limit(most)
        ids = list(self._connection.scalars(found))
        for part in chunks(ids):
            self._connection.execute(delete(queries).where(queries.c.id.in_(part)))
        self._header["queries"] -= len(ids)
        self.deleted += ids
        return len(ids)

    def delete_untouched(self, since: float, most: int) -> int:
        """Deletes lengths, and at most `most` of the queries, that have not been touched since a
        time in Unix seconds; returns how many queries."""
        self.delete_lengths(lengths.c.updated_at < since)
        return self.delete_queries(queries.c.updated_at < since, most)

    def delete_answers(self, which: ColumnElement[bool], most: int) -> int:
        """Deletes at most `most` of the answers, oldest first; returns how many."""
        oldest = select(answers.c.id).where(which).order_by(answers.c.at).limit(most)
        gone = self._connection.execute(delete(answers).where(answers.c.id.in_(oldest)))
        self._header["answers"] -= gone.rowcount
        return gone.rowcount

    def forget(self, which: ColumnElement[bool], after: int, most: int) -> list[int]:
        """Deletes matching outcomes of the next `most` queries after number `after`, and those
        queries that then have no outcome left.

        Returns:
            The numbers of the queries that had matching outcomes, in order.
        """
        some = select(outcomes.c.query_id).where(which, outcomes.c.query_id > after).distinct()
        ids = list(self._connection.scalars(some.order_by(outcomes.c.query_id).limit(most)))
        for part in chunks(ids):
            self._connection.execute(delete(outcomes).where(outcomes.c.query_id.in_(part), which))
            empty = ~exists().where(outcomes.c.query_id == queries.c.id)
            self.delete_queries(queries.c.id.in_(part) & empty, len(part))
        self.touch(ids)
        self.mark_scored(ids)
        return ids

    def count(self) -> None:
        """Recounts the rows: earlier versions of this program did not update the header."""
        for table in (queries, answers):
            counted = self._connection.scalar(select(func.count()).select_from(table))
            self._header[table.name] = counted or 0

    def _evict(self, number: int, unscored: int) -> int:
        """Deletes this many queries: first those without a score, but for `unscored` of them, then
        those with one."""
        some = select(queries.c.id).where(~queries.c.scored).limit(number + unscored)
        found = self._connection.scalar(select(func.count()).select_from(some.subquery())) or 0
        gone = self.delete_queries(~queries.c.scored, min(number, max(0, found - unscored)))
        return gone + self.delete_queries(queries.c.scored, number - gone)
