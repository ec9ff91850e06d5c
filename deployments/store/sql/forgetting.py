"""Which part of what is known to forget."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    and_,
    exists,
    false,
    func,
    select,
    true,
)

from deployments.store.sql.schema import answers, dated, lengths, outcomes


@dataclass(frozen=True, slots=True)
class Selection:
    """Outcomes, answers and lengths that meet all of these conditions.

    Attributes:
        model: of the model with this name.
        source: from this source: "answers", or "import:<name>".
        before: scored last before this time, in Unix seconds; outcomes without a score and lengths:
            unchanged since.
    """

    model: str | None = None
    source: str | None = None
    before: float | None = None

    def outcomes(self, table: FromClause = outcomes) -> ColumnElement[bool]:
        """The condition on `outcomes`."""
        wanted: list[ColumnElement[bool]] = [true()]
        if self.model is not None:
            wanted.append(table.c.model == self.model)
        if self.source is not None:
            wanted.append(table.c.source == self.source)
        if self.before is not None:
            told = func.coalesce(dated(table), table.c.updated_at)
            wanted.append(told < self.before)
        return and_(*wanted)

    def answers(self, until: float) -> ColumnElement[bool]:
        """The condition on `answers`, for those given before `until`, in Unix seconds."""
        if self.source not in (None, "answers"):
            return false()
        wanted = answers.c.at < (until if self.before is None else min(until, self.before))
        return wanted if self.model is None else wanted & (answers.c.model == self.model)

    def lengths(self) -> ColumnElement[bool]:
        """The condition on `lengths`, which come from answers alone."""
        if self.source not in (None, "answers"):
            return false()
        wanted: list[ColumnElement[bool]] = [true()]
        if self.model is not None:
            wanted.append(lengths.c.model == self.model)
        if self.before is not None:
            wanted.append(lengths.c.updated_at < self.before)
        return and_(*wanted)


def counted(connection: Connection, selection: Selection, until: float) -> dict[str, int]:
    """How much a selection holds: `outcomes` (of one model on one query from one source), the
    `queries` they belong to, how many of these would be `emptied`, `answers` awaiting feedback, and
    mean `lengths` (of one model's answers of one shape)."""

    def number(query: Any) -> int:
        return int(connection.scalar(query) or 0)

    found = selection.outcomes()
    other = outcomes.alias()
    same = (other.c.query_id == outcomes.c.query_id) & ~selection.outcomes(other)
    queries = select(func.count(outcomes.c.query_id.distinct()))
    return {
        "outcomes": number(select(func.count()).select_from(outcomes).where(found)),
        "queries": number(queries.where(found)),
        "emptied": number(queries.where(found, ~exists().where(same))),
        "answers": number(
            select(func.count()).select_from(answers).where(selection.answers(until))
        ),
        "lengths": number(select(func.count()).select_from(lengths).where(selection.lengths())),
    }
