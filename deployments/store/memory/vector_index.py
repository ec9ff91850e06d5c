"""Nearest neighbours among many changing embeddings, in memory, by usearch.

A graph of neighbours (HNSW, Malkov and Yashunin 2016) with 16 bits (bfloat16) per dimension; a
small index is searched exhaustively. Source: https://github.com/unum-cloud/usearch
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from deployments.store.evidence import Floats32, Integers

_EXHAUSTIVE = 2_000  # rows; with more, the graph is quicker
_LINKS = 16
_EFFORT = 128  # candidates examined while linking a row, and while searching
_EFFORT_ROWS = 100_000  # beyond this number of rows, searching examines more candidates
_PIECE = 4  # rows added before waiting searches get their turn
_BULK = 1024  # this many rows at once (a start or an import) are added on all cores


class VectorIndex:
    """Embeddings of length 1 by id. Threads may search and change it at once; they take turns,
    since usearch can't change its graph during a search.

    Args:
        dimensions: of the embeddings.
    """

    def __init__(self, dimensions: int) -> None:
        from usearch.index import Index

        self._index = Index(
            ndim=dimensions,
            metric="ip",
            dtype="bf16",
            connectivity=_LINKS,
            expansion_add=_EFFORT,
            expansion_search=_EFFORT,
        )
        self._next, self._lock = threading.Lock(), threading.Lock()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def memory(self) -> int:
        """Bytes taken by the rows and their links."""
        return int(self._index.memory_usage)

    def add(self, ids: Integers, embeddings: Floats32) -> None:
        """Adds rows; existing ones are replaced.

        Args:
            ids: (b,), not negative; of equal ones the last counts.
            embeddings: (b, d), each of length 1.
        """
        # `unique` finds the first of equal ids; reversed, that is the last.
        ids, last = np.unique(ids[::-1], return_index=True)
        embeddings = embeddings[::-1][last]
        bulk = len(ids) >= _BULK
        size = _BULK if bulk else _PIECE
        for start in range(0, len(ids), size):
            piece = slice(start, start + size)
            with self._exclusive():
                self._index.remove(ids[piece])
                self._index.add(ids[piece], embeddings[piece], threads=0 if bulk else 1)
                growth = max(1.0, len(self) / _EFFORT_ROWS)
                self._index.expansion_search = int(_EFFORT * growth**0.3)

    def remove(self, ids: Integers) -> None:
        """Removes rows; unknown ids are ignored."""
        if len(ids):
            with self._exclusive():
                self._index.remove(np.unique(ids))

    def search(self, embeddings: Floats32, k: int) -> tuple[Integers, Floats32]:
        """Ids and cosines, each (b, min(k, n)), of the rows nearest to each embedding (b, d),
        nearest first."""
        with self._exclusive():
            k = min(k, len(self))
            if not k or not len(embeddings):
                shape = (len(embeddings), k)
                return np.zeros(shape, np.int64), np.zeros(shape, np.float32)
            found = None if len(self) <= _EXHAUSTIVE else self._search(embeddings, k, exact=False)
            # Removals can disconnect the graph, so that it finds too few.
            ids, distances = found or self._search(embeddings, k, exact=True)
        return ids.astype(np.int64), 1 - distances

    def _search(self, embeddings: Floats32, k: int, exact: bool) -> Any:
        """Ids and distances, each (b, k); None if fewer than k were found."""
        found: Any = self._index.search(embeddings, k, exact=exact, threads=1)
        fewest = len(found) if len(embeddings) == 1 else found.counts.min()
        shape = (len(embeddings), k)
        return None if fewest < k else (found.keys.reshape(shape), found.distances.reshape(shape))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Holds the lock, fairly: a plain lock often goes to the thread that just released it."""
        with self._next:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()
