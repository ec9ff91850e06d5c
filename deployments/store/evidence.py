"""What is known of past queries, as arrays: what a store gives to a predictor.

Shapes: n past queries, b new ones, k neighbours of each, m models, e known outcomes of these, d
dimensions of an embedding. NaN stands for an unknown outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats32 = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What is known of m models on n past queries: e known outcomes, in any order.

    With many models, few of them have answered any one query; only those are listed.

    Attributes:
        row: (e,), which query, 0 to n - 1.
        column: (e,), which model.
        quality: (e,), mean quality of the model's answers, 0 to 1; NaN if unknown.
        output_tokens: (e,), their mean length; NaN if unknown.
        weight: (e,), the number of answers averaged.
    """

    row: Integers
    column: Integers
    quality: Floats32
    output_tokens: Floats32
    weight: Floats32

    @classmethod
    def nothing(cls) -> "Outcomes":
        """No outcome is known."""
        at, none = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return cls(at, at, none, none, none)

    @classmethod
    def of(
        cls, rows: Integers, quality: Floats32, output_tokens: Floats32, weight: Floats32
    ) -> "Outcomes":
        """Those in these rows (n,) of arrays with a column for each model; the same row may come
        more than once. An outcome of weight 0 is not known."""
        row, column = np.nonzero(weight[rows])
        at = rows[row], column
        return cls(row, column, quality[at], output_tokens[at], weight[at])


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The k nearest past queries of each of b new ones, nearest first.

    Attributes:
        ids: (b, k), the store's numbers of the past queries.
        similarity: (b, k), the cosine.
        outcomes: of the b * k past queries, those of the first new query first.
    """

    ids: Integers
    similarity: Floats32
    outcomes: Outcomes


@dataclass(frozen=True, slots=True)
class Means:
    """What is known of each model overall, each (m,); NaN where nothing is known.

    Each query counts once, however often it was answered: one text that is asked and scored again
    and again says no more of other queries.

    Attributes:
        quality: mean quality over the queries with a score.
        output_tokens: mean length over the queries whose length is known.
        count: number of queries with a score.
    """

    quality: Floats32
    output_tokens: Floats32
    count: Integers


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Past queries as they were at one moment, to fit a predictor on.

    Attributes:
        queries: n texts.
        embeddings: (n, d), each of length 1.
        quality, output_tokens, weight: (n, m), as in Outcomes; weight 0 where nothing is known.
        said: (n, m), digests of what the models answered; 0 where that isn't known. None if it is
            known nowhere.
    """

    queries: Sequence[str]
    embeddings: Floats32
    quality: Floats32
    output_tokens: Floats32
    weight: Floats32
    said: Integers | None = None

    @classmethod
    def nothing(cls, models: int) -> "Snapshot":
        """A snapshot without past queries, for this number of models."""
        none = np.zeros((0, models), np.float32)
        return cls([], np.zeros((0, 0), np.float32), none, none, none)

    def __len__(self) -> int:
        return len(self.queries)

    def part(self, rows: npt.NDArray[np.intp]) -> "Snapshot":
        """A snapshot of these rows only."""
        return Snapshot(
            [self.queries[row] for row in rows],
            self.embeddings[rows],
            self.quality[rows],
            self.output_tokens[rows],
            self.weight[rows],
            None if self.said is None else self.said[rows],
        )

    def outcomes(self, rows: Integers) -> Outcomes:
        """What is known of these rows."""
        return Outcomes.of(rows, self.quality, self.output_tokens, self.weight)

    def means(self) -> Means:
        """What the rows say about each model overall."""
        return Means(
            _mean(self.quality),
            _mean(self.output_tokens),
            (~np.isnan(self.quality)).sum(axis=0),
        )


class Evidence(Protocol):
    """What a predictor needs from a store."""

    def __len__(self) -> int:
        """The number of past queries with a score."""
        ...

    def neighbours(self, embeddings: Floats32, k: int) -> Neighbours:
        """The past queries nearest to each embedding (b, d): k with a score, or all if there are
        fewer; near ones without a score may come with them."""
        ...

    def means(self) -> Means:
        """What is known of each model overall."""
        ...


def _mean(values: Floats32) -> Floats32:
    """(m,), the means of the columns' known values; NaN where none is known."""
    known = ~np.isnan(values)
    sums = np.where(known, values, 0).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean: Floats32 = (sums / known.sum(axis=0)).astype(np.float32)
    return mean
