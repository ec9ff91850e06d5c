"""A copy of what the store knows, as a router decides by it: segments, of which newer ones count
before older ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from deployments.store.ageing import Ageing
from deployments.store.copies.segment import KINDS, Nearest, Segment
from deployments.store.copies.table import Sums
from deployments.store.evidence import Floats32, Integers, Means, Neighbours, Outcomes

_UNSCORED = 64  # nearest ones without a score; lengths vary little, so a few are enough


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A segment, and the numbers (h,) of its queries that newer segments have, too, ascending."""

    segment: Segment
    hidden: Integers

    def count(self, kind: str) -> int:
        """The number of queries of a kind, without the hidden ones."""
        places, hidden = self.segment.places[kind], self.segment.table.places(self.hidden)
        if not len(places):
            return 0
        at = np.minimum(np.searchsorted(places, hidden), len(places) - 1)
        return len(places) - int((places[at] == hidden).sum())

    def sums(self, models: int, ageing: Ageing | None) -> tuple[Sums, Sums]:
        """The totals of all queries and of the hidden ones, for this number of models."""
        hidden = self.segment.table.take(self.segment.table.places(self.hidden))
        if ageing is None:
            return self.segment.sums, Sums.of(hidden, models)
        before, sums = self.segment.aged(ageing)
        since = float(ageing.freshness(np.array(before.now)))
        return sums.faded(since), Sums.of(hidden, models, before).faded(since)

    def search(self, kind: str, embedding: Floats32, k: int) -> Nearest:
        more = min(len(self.hidden), k // 4)
        while True:
            near = self.segment.search(kind, embedding, k + more)
            if not len(self.hidden):
                return near
            at = np.minimum(np.searchsorted(self.hidden, near.ids), len(self.hidden) - 1)
            seen = np.flatnonzero(self.hidden[at] != near.ids)[:k]
            if len(seen) == k or len(near.ids) < k + more:
                return Nearest(near.ids[seen], near.similarity[seen])
            more = 4 * (more + 1)  # ends when all are found, at the latest


class Copy:
    """Implements `deployments.store.evidence.Evidence`. Never changes; threads may search at once.

    Args:
        segments: oldest first.
        models: how many models the segments' columns are for.
        columns: (m,) the segments' column of each model of the caller; -1 if they have none. None
            if the columns are the same.
        ageing: how much scores count in this copy; None if they don't age.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        models: int,
        columns: Integers | None = None,
        ageing: Ageing | None = None,
    ) -> None:
        self.segments, self._ageing = list(segments), ageing
        self._layers = _layers(self.segments)
        self._columns = columns
        # The caller's column of each of the segments' columns.
        self._mine = np.full(models, -1, np.int64)
        if columns is not None:
            self._mine[columns[columns >= 0]] = np.flatnonzero(columns >= 0)
        self.scored, self.unscored = (self._count(kind) for kind in KINDS)
        self._means = self._summed(models).means()

    def __len__(self) -> int:
        """The number of past queries with a score."""
        return self.scored

    def means(self) -> Means:
        """What is known of each model overall."""
        return self._means

    def prepare(self) -> None:
        """Reads what the first search would otherwise wait for."""
        for segment in self.segments:
            segment.prepare()

    def ids(self, kind: str) -> Integers:
        """The numbers of the past queries that are "scored", or "unscored", ascending."""
        found = [
            np.setdiff1d(layer.segment.ids(kind), layer.hidden, assume_unique=True)
            for layer in self._layers
        ]
        return np.sort(np.concatenate([*found, np.zeros(0, np.int64)]))

    def neighbours(self, embeddings: Floats32, k: int) -> Neighbours:
        """The k scored past queries nearest to each embedding (b, d), and some without a score."""
        found = [self._nearest(embedding, k) for embedding in embeddings]
        width = max((len(near.ids) for near in found), default=0)
        ids = np.full((len(found), width), -1, np.int64)
        similarity = np.full((len(found), width), -1, np.float32)
        for row, near in enumerate(found):
            ids[row, : len(near.ids)] = near.ids
            similarity[row, : len(near.ids)] = near.similarity
        return Neighbours(ids, similarity, self._outcomes(ids.ravel()))

    def _nearest(self, embedding: Floats32, k: int) -> Nearest:
        return _joined(
            [
                near
                for kind, most in zip(KINDS, (k, min(k, _UNSCORED)), strict=True)
                if (near := self._nearest_of(kind, embedding, most)) is not None
            ],
            k + _UNSCORED,
        )

    def _nearest_of(self, kind: str, embedding: Floats32, k: int) -> Nearest | None:
        found = [
            layer.search(kind, embedding, k)
            for layer in self._layers
            if len(layer.segment.places[kind])
        ]
        return _joined(found, k) if found else None

    def _outcomes(self, ids: Integers) -> Outcomes:
        """What is known of the queries of these numbers; -1 stands for none."""
        parts: list[Outcomes] = []
        row = np.arange(len(ids))
        for layer in reversed(self._layers):  # what the newest has counts
            places = layer.segment.table.places(ids[row])
            here = places >= 0
            known = layer.segment.table.outcomes(places[here], self._ageing)
            parts.append(replace(known, row=row[here][known.row]))
            row = row[~here]
        outcomes = parts[0] if len(parts) == 1 else _concatenated(parts)
        return outcomes if self._columns is None else self._translated(outcomes)

    def _translated(self, outcomes: Outcomes) -> Outcomes:
        column = self._mine[outcomes.column]
        kept = column >= 0
        return Outcomes(
            outcomes.row[kept],
            column[kept],
            outcomes.quality[kept],
            outcomes.output_tokens[kept],
            outcomes.weight[kept],
            None if outcomes.freshness is None else outcomes.freshness[kept],
        )

    def _count(self, kind: str) -> int:
        return sum(layer.count(kind) for layer in self._layers)

    def _summed(self, models: int) -> Sums:
        nothing = np.zeros(models)
        total = Sums(nothing, nothing, nothing, nothing)
        for layer in self._layers:
            known, hidden = layer.sums(models, self._ageing)
            total = total + known - hidden
        return total if self._columns is None else total.of_columns(self._columns)


def _layers(segments: Sequence[Segment]) -> list[_Layer]:
    layers: list[_Layer] = []
    newer = np.zeros(0, np.int64)
    for segment in reversed(segments):
        layers.append(_Layer(segment, newer[segment.table.places(newer) >= 0]))
        if segment is not segments[0]:  # which may have millions, and none is older
            newer = np.union1d(newer, segment.table.ids)
    return layers[::-1]


def _joined(found: Sequence[Nearest], k: int) -> Nearest:
    if len(found) == 1:
        return found[0]
    if not found:
        return Nearest(np.zeros(0, np.int64), np.zeros(0, np.float32))
    ids = np.concatenate([near.ids for near in found])
    return Nearest.of(ids, np.concatenate([near.similarity for near in found]), k)


def _concatenated(parts: Sequence[Outcomes]) -> Outcomes:
    if not parts:
        return Outcomes.nothing()
    fresh = [part.freshness for part in parts if part.freshness is not None]
    return Outcomes(
        np.concatenate([part.row for part in parts]),
        np.concatenate([part.column for part in parts]),
        np.concatenate([part.quality for part in parts]),
        np.concatenate([part.output_tokens for part in parts]),
        np.concatenate([part.weight for part in parts]),
        np.concatenate(fresh) if fresh else None,  # all parts have it, or none
    )
