"""Past queries in memory: growing arrays, and two indices to search them.

Most traffic is never scored. Queries with a score and those without have an index each, so that the
latter, which tell only lengths, don't crowd the former out of the nearest neighbours.
"""

import threading
from collections.abc import Iterable, Sequence

import numpy as np

from deployments.store.evidence import Floats32, Integers, Means, Neighbours, Outcomes, Snapshot
from deployments.store.memory.vector_index import VectorIndex
from deployments.store.observations import StoredRow

PerModel = tuple[Floats32, Floats32, Floats32]  # (m,) quality, output tokens, weight

_FEWEST = 1024  # rows that arrays begin with; they double when full
_UNSCORED = 64  # nearest ones without a score; lengths vary little, so a few are enough


class Rows:
    """Implements `deployments.store.evidence.Evidence`. Threads may read and write at once.

    Args:
        models: the models whose outcomes are kept, in the order of the arrays' columns.
        dimensions: of the embeddings.
    """

    def __init__(self, models: Sequence[str], dimensions: int) -> None:
        self.models = list(models)
        self._dimensions = dimensions
        self._column = {model: column for column, model in enumerate(models)}
        self._scored, self._unscored = VectorIndex(dimensions), VectorIndex(dimensions)
        self._place: dict[int, int] = {}
        self._free: list[int] = []
        self._ids, self._revision = np.zeros(_FEWEST, np.int64), np.zeros(_FEWEST, np.int64)
        shape = (_FEWEST, len(self.models))
        self._quality = np.full(shape, np.nan, np.float32)
        self._tokens = np.full(shape, np.nan, np.float32)
        self._weight = np.zeros(shape, np.float32)
        self._totals = _Totals(len(self.models))
        # Two locks: indexing a row takes longer than writing it, and indices have their own locks.
        self._writing, self._reading = threading.Lock(), threading.Lock()

    def __len__(self) -> int:
        """The number of past queries with a score of any of the models."""
        return len(self._scored)

    @property
    def unscored(self) -> int:
        """The number of past queries with answers but no score."""
        return len(self._unscored)

    def put(self, rows: Sequence[StoredRow]) -> None:
        """Adds rows, each replacing what was known of its query unless that is newer: threads may
        deliver two revisions of a row in the wrong order. Rows without outcomes of the models are
        removed."""
        scored: dict[int, Floats32] = {}
        unscored: dict[int, Floats32] = {}
        empty: list[int] = []
        with self._writing:
            for row in rows:
                outcomes = self._outcomes(row)
                if self._is_outdated(row):
                    continue
                if not outcomes[2].any():
                    empty.append(row.id)
                else:
                    known = not np.isnan(outcomes[0]).all()
                    place = self._write(row.id, outcomes)
                    self._revision[place] = row.revision
                    (scored if known else unscored)[place] = row.embedding
            # After the arrays: whatever a search finds must be in them.
            for index, other, found in (
                (self._scored, self._unscored, scored),
                (self._unscored, self._scored, unscored),
            ):
                if found:
                    places = np.array(list(found), np.int64)
                    index.add(places, np.stack(list(found.values())))
                    other.remove(places)
            self._remove(empty)

    def remove(self, ids: Iterable[int]) -> None:
        """Removes rows; unknown ids are ignored."""
        with self._writing:
            self._remove(ids)

    def ids(self) -> set[int]:
        """The ids of all rows."""
        with self._writing:
            return set(self._place)

    def neighbours(self, embeddings: Floats32, k: int) -> Neighbours:
        """The k scored past queries nearest to each embedding (b, d), and some without a score."""
        places, similarity = self._scored.search(embeddings, k)
        if len(self._unscored):
            more = self._unscored.search(embeddings, min(k, _UNSCORED))
            places = np.hstack([places, more[0]])
            similarity = np.hstack([similarity, more[1]])
            order = np.argsort(-similarity, axis=1, kind="stable")
            places = np.take_along_axis(places, order, axis=1)
            similarity = np.take_along_axis(similarity, order, axis=1)
        with self._reading:
            outcomes = Outcomes.of(places.ravel(), self._quality, self._tokens, self._weight)
            return Neighbours(self._ids[places], similarity, outcomes)

    def means(self) -> Means:
        """What is known of each model overall."""
        with self._reading:
            return self._totals.means()

    def sample(self, most: int, random: np.random.Generator) -> list[int]:
        """The ids of scored rows, in order: all of them, or `most` drawn at random."""
        with self._reading:
            scored = ~np.isnan(self._quality[: self._used]).all(axis=1)
            ids: Integers = np.sort(self._ids[: self._used][scored])
        if len(ids) > most:
            ids = np.sort(random.choice(ids, most, replace=False))
        return [int(id) for id in ids]

    def snapshot(self, rows: Sequence[StoredRow]) -> Snapshot:
        """These rows as arrays, with the same columns."""
        outcomes = [self._outcomes(row) for row in rows]
        shape = (len(rows), len(self.models))
        quality, tokens, weight = (
            np.array([outcome[part] for outcome in outcomes], np.float32).reshape(shape)
            for part in range(3)
        )
        embeddings = np.array([row.embedding for row in rows], np.float32)
        embeddings = embeddings.reshape(len(rows), self._dimensions)
        return Snapshot([row.query for row in rows], embeddings, quality, tokens, weight)

    def _remove(self, ids: Iterable[int]) -> None:
        known = [id for id in ids if id in self._place]
        places = np.array([self._place[id] for id in known], np.int64)
        self._scored.remove(places)
        self._unscored.remove(places)
        for id in known:
            self._write(id, self._totals.nothing)
            self._free.append(self._place.pop(id))

    @property
    def _used(self) -> int:
        return len(self._place) + len(self._free)

    def _is_outdated(self, row: StoredRow) -> bool:
        place = self._place.get(row.id)
        return place is not None and row.revision < self._revision[place]

    def _write(self, id: int, outcomes: PerModel) -> int:
        """Writes a query's outcomes into its place in the arrays, and returns that place."""
        with self._reading:
            place = self._placed(id)
            old = self._quality[place], self._tokens[place], self._weight[place]
            self._totals.replace(old, outcomes)
            self._quality[place], self._tokens[place], self._weight[place] = outcomes
        return place

    def _placed(self, id: int) -> int:
        if id in self._place:
            return self._place[id]
        place = self._free.pop() if self._free else self._used
        if place == len(self._ids):
            self._grow()
        self._place[id] = place
        self._ids[place] = id
        return place

    def _grow(self) -> None:
        size = len(self._ids)
        for name in ("_ids", "_revision"):
            more = np.zeros(size, np.int64)
            setattr(self, name, np.concatenate([getattr(self, name), more]))
        for name, empty in (("_quality", np.nan), ("_tokens", np.nan), ("_weight", 0.0)):
            more = np.full((size, len(self.models)), empty, np.float32)
            setattr(self, name, np.concatenate([getattr(self, name), more]))

    def _outcomes(self, row: StoredRow) -> PerModel:
        """The quality, output tokens and weight of each model, each (m,)."""
        quality, tokens, weight = (array.copy() for array in self._totals.nothing)
        for model, outcome in row.outcomes.items():
            column = self._column.get(model)
            if column is not None:
                quality[column] = np.nan if outcome.quality is None else outcome.quality
                tokens[column] = np.nan if outcome.output_tokens is None else outcome.output_tokens
                weight[column] = outcome.count
        return quality, tokens, weight


class _Totals:
    """Running sums over all rows, so that means cost the same for any number of them."""

    def __init__(self, models: int) -> None:
        self.nothing: PerModel = (
            np.full(models, np.nan, np.float32),
            np.full(models, np.nan, np.float32),
            np.zeros(models, np.float32),
        )
        # Rows: sum of quality, weight of quality, sum of tokens, weight of tokens, scored queries.
        self._sums = np.zeros((5, models))

    def replace(self, old: PerModel, new: PerModel) -> None:
        self._sums += _sums(*new) - _sums(*old)

    def means(self) -> Means:
        quality, scored, tokens, counted, queries = self._sums
        # Sums of what was added and subtracted again are not exactly 0.
        some, more = scored > 0.5, counted > 0.5
        return Means(
            np.where(some, quality / np.where(some, scored, 1), np.nan).astype(np.float32),
            np.where(more, tokens / np.where(more, counted, 1), np.nan).astype(np.float32),
            np.rint(queries).astype(np.int64),
        )


def _sums(quality: Floats32, tokens: Floats32, weight: Floats32) -> np.ndarray:
    scored, counted = ~np.isnan(quality), ~np.isnan(tokens)
    return np.array(
        [
            np.where(scored, quality * weight, 0),
            np.where(scored, weight, 0),
            np.where(counted, tokens * weight, 0),
            np.where(counted, weight, 0),
            scored,
        ],
        np.float64,
    )
