"""Nearest neighbours among many embeddings that come and go, in memory, by usearch.

A graph of near rows (HNSW, Malkov and Yashunin 2016), each row in 16 bits (bfloat16) a dimension;
of few rows all are looked at. Source: https://github.com/unum-cloud/usearch
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from deployments.store.evidence import Floats32, Integers

_EXACT = 2_000  # rows; of more, the graph is quicker
_LINKS = 16
_EFFORT = 128  # rows kept in sight while a row is linked, and while the nearest are sought,
_EFFORT_ROWS = 100_000  # more of them among more rows than these
_PIECE = 4  # rows added before searches that wait get their turn
_BULK = 1024  # so many at once are added by all cores, for it is a start, or an import


class VectorIndex:
    """Rows of numbers and embeddings of length 1. Threads may search and change it at once.

    usearch does not grow or change its graph while it is searched, so each waits for its turn.

    Args:
        dimensions: d.
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
        """Bytes that the rows and their links take."""
        return int(self._index.memory_usage)

    def add(self, ids: Integers, embeddings: Floats32) -> None:
        """Takes in rows; one that is there already is replaced.

        Args:
            ids: (b,) 0 or more; of equal ones the last counts.
            embeddings: (b, d), each of length 1.
        """
        # Of equal ids the first of the reversed is the last.
        ids, last = np.unique(ids[::-1], return_index=True)
        embeddings = embeddings[::-1][last]
        bulk = len(ids) >= _BULK
        size = _BULK if bulk else _PIECE
        for start in range(0, len(ids), size):
            piece = slice(start, start + size)
            with self._alone():
                self._index.remove(ids[piece])
                self._index.add(ids[piece], embeddings[piece], threads=0 if bulk else 1)
                growth = max(1.0, len(self) / _EFFORT_ROWS)
                self._index.expansion_search = int(_EFFORT * growth**0.3)

    def remove(self, ids: Integers) -> None:
        """Forgets rows; unknown ids are fine."""
        if len(ids):
            with self._alone():
                self._index.remove(np.unique(ids))

    def search(self, embeddings: Floats32, k: int) -> tuple[Integers, Floats32]:
        """Ids and cosines, each (b, min(k, n)), of the rows nearest to each embedding (b, d),
        nearest first."""
        with self._alone():
            k = min(k, len(self))
            if not k or not len(embeddings):
                shape = (len(embeddings), k)
                return np.zeros(shape, np.int64), np.zeros(shape, np.float32)
            found = None if len(self) <= _EXACT else self._search(embeddings, k, exact=False)
            # What was removed can cut the graph, so that it gives fewer.
            ids, distances = found or self._search(embeddings, k, exact=True)
        return ids.astype(np.int64), 1 - distances

    def _search(self, embeddings: Floats32, k: int, exact: bool) -> Any:
        """Ids and distances, each (b, k); None if fewer than k were found."""
        found: Any = self._index.search(embeddings, k, exact=exact, threads=1)
        fewest = len(found) if len(embeddings) == 1 else found.counts.min()
        shape = (len(embeddings), k)
        return None if fewest < k else (found.keys.reshape(shape), found.distances.reshape(shape))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Holds the lock, in turn: a plain lock goes to the thread that just gave it back."""
        with self._next:
            self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()
