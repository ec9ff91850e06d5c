"""One part of a copy: past queries in a folder of files, written once and then only read."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deployments.store.ageing import Ageing
from deployments.store.copies.ann import Ann
from deployments.store.copies.table import Sums, Table
from deployments.store.copies.vectors import BFloats16, lengthened
from deployments.store.evidence import Floats32, Integers

EXHAUSTIVE = 4096  # rows; more are searched by an index
# Candidates of an index, which are then compared exactly: so many more than are wanted, or these.
_MORE, _FEWEST = 128, 384
KINDS = "scored", "unscored"


@dataclass(frozen=True, slots=True)
class Nearest:
    """Numbers (j,) of past queries, and their cosines (j,), nearest first."""

    ids: Integers
    similarity: Floats32

    @classmethod
    def of(cls, ids: Integers, similarity: Floats32, k: int) -> "Nearest":
        """The k nearest of those given."""
        if len(ids) > k:
            near = np.argpartition(-similarity, k)[:k]
            ids, similarity = ids[near], similarity[near]
        order = np.argsort(-similarity, kind="stable")
        return cls(ids[order], similarity[order])


class Segment:
    """Past queries with their outcomes and embeddings. Those with a score and those without are
    searched apart. Threads may search at once.

    Args:
        folder: that `building.build` wrote.

    Attributes:
        table, vectors: the queries by number, and their embeddings (n, d).
        places: positions of the queries with a score, and of those with other outcomes only.
        sums: the totals of each model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self.table = Table(**{field.name: self._mapped(field.name) for field in fields(Table)})
        self.vectors: BFloats16 = self._mapped("vectors")
        self.places: dict[str, Integers] = {kind: self._mapped(kind) for kind in KINDS}
        self.sums = Sums(*np.load(folder / "sums.npy"))
        self._aged: tuple[Ageing, Sums] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def aged(self, ageing: Ageing) -> tuple[Ageing, Sums]:
        """The totals as scores aged until some moment before, and that moment. From then on, all of
        them fade by the same share, so they are added up once, unless the clock is put back."""
        aged = self._aged
        if aged is None or aged[0].half_life_s != ageing.half_life_s or aged[0].now > ageing.now:
            self._aged = aged = ageing, Sums.of(self.table, len(self.sums.queries), ageing)
        return aged

    def ids(self, kind: str) -> Integers:
        """Numbers of the "scored" or the "unscored" queries."""
        return self.table.ids[self.places[kind]]

    def search(self, kind: str, embedding: Floats32, k: int) -> Nearest:
        """The k nearest of the "scored" or the "unscored" queries."""
        index = self._indices[kind]
        if index is None:
            ids, rows = self._few[kind]
            return Nearest.of(ids, rows @ embedding, k)
        ids = index.candidates(embedding, max(k + _MORE, _FEWEST))
        places = self.table.places(ids)
        return Nearest.of(ids, lengthened(self.vectors[places]) @ embedding, k)

    def prepare(self) -> None:
        """Reads what the first search would otherwise wait for."""
        _ = self._indices, self._few

    def embeddings(self, places: Integers) -> Floats32:
        """(b, d) of the queries at these positions."""
        return lengthened(self.vectors[places])

    def index(self, kind: str) -> Ann | None:
        """The index of one kind of queries, for a change; None if they are few."""
        file = self.folder / f"{kind}.faiss"
        return Ann.read(file) if file.exists() else None

    def _mapped(self, name: str) -> Any:
        """An array in a file, which takes memory once for all processes."""
        # Not as a `memmap`, whose slices take ten times as long to make.
        return np.load(self.folder / f"{name}.npy", mmap_mode="r").view(np.ndarray)

    @cached_property
    def _indices(self) -> dict[str, Ann | None]:
        return {kind: self.index(kind) for kind in KINDS}

    @cached_property
    def _few(self) -> dict[str, tuple[Integers, Floats32]]:
        """Numbers and embeddings of the queries that are searched exhaustively."""
        return {
            kind: (self.ids(kind), self.embeddings(places))
            for kind, places in self.places.items()
            if self._indices[kind] is None
        }
