"""What models did on past queries, as flat arrays: a few bytes for each known outcome, and none for
unknown ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deployments.store.ageing import Ageing
from deployments.store.evidence import Floats32, Integers, Means, Outcomes

if TYPE_CHECKING:  # else routers would load the database's libraries
    from deployments.store.sql.reading import Batch

Halves = npt.NDArray[np.float16]
Seconds = npt.NDArray[np.uint32]  # enough until 2106

_LARGEST = 65_000.0  # the largest length and weight that 16 bits hold, about
_LATEST = 2.0**32 - 1
_NOTHING = 1e-6  # queries; a difference of sums is not exactly 0


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """n past queries, and their e known outcomes.

    Attributes:
        ids: (n,) the store's numbers of the queries, ascending.
        first: (n + 1,) where the outcomes of each query begin in the arrays below.
        column: (e,) the model.
        quality: (e,) mean quality, 0 to 1; NaN where only the length is known.
        output_tokens: (e,) mean length; NaN where unknown.
        weight: (e,) the number of answers averaged.
        scored_at: (e,) when the latest score was given, in Unix seconds; 0 where there is none.
    """

    ids: Integers
    first: Integers
    column: npt.NDArray[np.uint16]
    quality: Halves
    output_tokens: Halves
    weight: Halves
    scored_at: Seconds

    @classmethod
    def of(cls, batch: "Batch", columns: Mapping[str, int]) -> "Table":
        """The queries of a batch, with the outcomes of those models that have a column."""
        of_name = np.array([columns.get(name, -1) for name in batch.models], np.int64)
        column = of_name[batch.columns]
        known = np.flatnonzero(column >= 0)
        first = np.zeros(len(batch.ids) + 1, np.int64)
        np.cumsum(np.bincount(batch.rows[known], minlength=len(batch.ids)), out=first[1:])
        return cls(
            batch.ids,
            first,
            column[known].astype(np.uint16),
            batch.quality[known].astype(np.float16),
            np.minimum(batch.output_tokens[known], _LARGEST).astype(np.float16),
            np.minimum(batch.counts[known], _LARGEST).astype(np.float16),
            np.minimum(batch.scored_at[known], _LATEST).astype(np.uint32),
        )

    @classmethod
    def empty(cls) -> "Table":
        """A table without queries."""
        none = np.zeros(0, np.float16)
        column, scored_at = np.zeros(0, np.uint16), np.zeros(0, np.uint32)
        first = np.zeros(1, np.int64)
        return cls(np.zeros(0, np.int64), first, column, none, none, none, scored_at)

    def __len__(self) -> int:
        return len(self.ids)

    def places(self, ids: Integers) -> Integers:
        """The position of each number in the table; -1 where it has no such query."""
        if not len(self):
            return np.full(len(ids), -1, np.int64)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)
        return np.where(self.ids[at] == ids, at, -1)

    def entries(self, places: Integers) -> tuple[Integers, Integers]:
        """The outcomes of the queries at these positions, as positions in the flat arrays, and for
        each the number of its query among `places`."""
        begin = self.first[places]
        count = self.first[places + 1] - begin
        row = np.repeat(np.arange(len(places)), count)
        before = np.cumsum(count) - count
        return np.arange(len(row)) + np.repeat(begin - before, count), row

    def take(self, places: Integers) -> "Table":
        """The queries at these positions, which must ascend."""
        entries, row = self.entries(places)
        first = np.zeros(len(places) + 1, np.int64)
        np.cumsum(np.bincount(row, minlength=len(places)), out=first[1:])
        return Table(
            self.ids[places],
            first,
            self.column[entries],
            self.quality[entries],
            self.output_tokens[entries],
            self.weight[entries],
            self.scored_at[entries],
        )

    def outcomes(self, places: Integers, ageing: Ageing | None = None) -> Outcomes:
        """What is known of the queries at these positions."""
        entries, row = self.entries(places)
        return Outcomes(
            row,
            self.column[entries].astype(np.int64),
            self.quality[entries].astype(np.float32),
            self.output_tokens[entries].astype(np.float32),
            self.weight[entries].astype(np.float32),
            None if ageing is None else ageing.freshness(self.scored_at[entries]),
        )

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        """(n,) whether anything is known of a query; nothing is of one that was deleted."""
        return self.first[1:] > self.first[:-1]

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """(n,) whether any model has a score on a query."""
        known = np.zeros(len(self.column) + 1, np.int64)
        np.cumsum(~np.isnan(self.quality), out=known[1:])
        scored: npt.NDArray[np.bool_] = known[self.first[1:]] > known[self.first[:-1]]
        return scored


def joined(tables: Sequence[Table]) -> Table:
    """The queries of all tables; where several have a query, the last of them counts."""
    ids = np.concatenate([table.ids for table in tables])
    sizes = np.concatenate([np.diff(table.first) for table in tables])
    begin = np.cumsum(sizes) - sizes
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    last = np.ones(len(ids), np.bool_)
    last[:-1] = ordered[1:] != ordered[:-1]
    kept = order[last]
    first = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(sizes[kept], out=first[1:])
    entries = np.arange(first[-1]) + np.repeat(begin[kept] - first[:-1], sizes[kept])
    return Table(
        ordered[last],
        first,
        np.concatenate([table.column for table in tables])[entries],
        np.concatenate([table.quality for table in tables])[entries],
        np.concatenate([table.output_tokens for table in tables])[entries],
        np.concatenate([table.weight for table in tables])[entries],
        np.concatenate([table.scored_at for table in tables])[entries],
    )


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Totals of a table for each of m models, from which means follow; all (m,).

    Attributes:
        quality, queries: sum of the qualities on each past query, and the queries with a score;
            where scores age, each as much as its score is fresh.
        tokens, lengths: sum of the lengths on each, and the queries whose length is known.
    """

    quality: npt.NDArray[np.float64]
    queries: npt.NDArray[np.float64]
    tokens: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.float64]

    @classmethod
    def of(cls, table: Table, models: int, ageing: Ageing | None = None) -> "Sums":
        """The totals of a table for this number of models."""
        freshness = None if ageing is None else ageing.freshness(table.scored_at)

        def totals(values: Halves, counting: Floats32 | None) -> list[npt.NDArray[np.float64]]:
            known = ~np.isnan(values)
            column, value = table.column[known], values[known].astype(np.float64)
            weight = None if counting is None else counting[known].astype(np.float64)
            value = value if weight is None else weight * value
            summed = np.bincount(column, value, models), np.bincount(column, weight, models)
            return [part.astype(np.float64) for part in summed]

        return cls(*totals(table.quality, freshness), *totals(table.output_tokens, None))

    @property
    def array(self) -> npt.NDArray[np.float64]:
        """(4, m) all of them."""
        return np.array([getattr(self, field.name) for field in fields(self)])

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(self.array + other.array))

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(*(self.array - other.array))

    def faded(self, share: float) -> "Sums":
        """The totals when only this share is left of each score's freshness."""
        return Sums(share * self.quality, share * self.queries, self.tokens, self.lengths)

    def of_columns(self, columns: Integers) -> "Sums":
        """The totals of these columns; 0 where one is -1."""
        return Sums(*np.where(columns >= 0, self.array[:, columns], 0.0))

    def means(self) -> Means:
        """What they say of each model overall."""

        def mean(total: npt.NDArray[np.float64], count: npt.NDArray[np.float64]) -> Floats32:
            known = count > _NOTHING
            return np.where(known, total / np.where(known, count, 1), np.nan).astype(np.float32)

        return Means(
            mean(self.quality, self.queries),
            mean(self.tokens, self.lengths),
            np.where(self.queries > _NOTHING, self.queries, 0.0),
        )
