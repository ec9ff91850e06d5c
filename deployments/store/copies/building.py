"""Writes segments: from past queries in memory, and from other segments."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np

from deployments.store.copies.ann import Ann
from deployments.store.copies.segment import EXHAUSTIVE, KINDS, Segment
from deployments.store.copies.table import Sums, Table, joined
from deployments.store.copies.vectors import BFloats16, lengthened
from deployments.store.evidence import Integers

_BLOCK = 65_536  # rows copied at a time; bounds the memory


class Rows(Protocol):
    """Past queries with their outcomes, and embeddings (n, d) in the same order."""

    @property
    def table(self) -> Table: ...
    @property
    def vectors(self) -> BFloats16: ...


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Past queries in memory; those without outcomes stand for deleted ones."""

    table: Table
    vectors: BFloats16


def build(
    folder: Path, parts: Sequence[Rows], models: int, *, reuse: Segment | None, deletions: bool
) -> Segment:
    """Writes the queries of all parts into a new folder, which appears when it is complete.

    Args:
        folder: whose parent exists.
        parts: oldest first; where several have a query, the last of them counts.
        models: how many the tables' columns are for.
        reuse: a segment whose indices are a start; with many of the same queries, or at least with
            queries like these.
        deletions: whether older segments may still have the queries that were deleted, so that the
            deletions must be kept.

    Raises:
        OSError: it can't be written, for want of room; nothing is left of it.
    """
    table = joined([part.table for part in parts])
    if not deletions:
        table = table.take(np.flatnonzero(table.answered))
    new = folder.with_name(f".{folder.name}")
    new.mkdir()
    try:
        _write(new, table, parts, models, reuse)
    except BaseException:  # whatever stopped it, half a segment is of no use
        shutil.rmtree(new, ignore_errors=True)
        raise
    new.rename(folder)
    return Segment(folder)


def _write(
    new: Path, table: Table, parts: Sequence[Rows], models: int, reuse: Segment | None
) -> None:
    for field in fields(Table):
        np.save(new / f"{field.name}.npy", getattr(table, field.name))
    vectors = _write_vectors(new / "vectors.npy", table, parts)
    np.save(new / "sums.npy", Sums.of(table, models).array)
    scored = table.scored
    for kind, kept in zip(KINDS, (scored, table.answered & ~scored), strict=True):
        places = np.flatnonzero(kept)
        np.save(new / f"{kind}.npy", places)
        index = _index(kind, table.ids[places], places, vectors, reuse)
        if index is not None:
            index.write(new / f"{kind}.faiss")
    del vectors
    for file in new.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())


def _write_vectors(file: Path, table: Table, parts: Sequence[Rows]) -> BFloats16:
    """Writes the embeddings of a table's queries, and maps them."""
    shape = len(table), parts[0].vectors.shape[1]
    if not len(table):  # nothing can't be mapped
        np.save(file, np.zeros(shape, np.uint16))
        return np.zeros(shape, np.uint16)
    vectors: BFloats16 = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        file, mode="w+", dtype=np.uint16, shape=shape
    )
    with file.open("r+b") as opened:  # a full disk would kill the process when pages are written
        os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    for part in parts:
        at = table.places(part.table.ids)
        kept = np.flatnonzero(at >= 0)
        for start in range(0, len(kept), _BLOCK):
            block = kept[start : start + _BLOCK]
            vectors[at[block]] = part.vectors[block]
    return vectors


def _index(
    kind: str, ids: Integers, places: Integers, vectors: BFloats16, reuse: Segment | None
) -> Ann | None:
    """An index of the queries with these numbers and places; None if they are few."""
    if len(ids) <= EXHAUSTIVE:
        return None
    index, known = _start(kind, ids, places, vectors, reuse)
    added = places[~np.isin(ids, known, assume_unique=True)]
    numbers = ids[~np.isin(ids, known, assume_unique=True)]
    for start in range(0, len(added), _BLOCK):
        block = slice(start, start + _BLOCK)
        index.add(numbers[block], lengthened(vectors[added[block]]))
    return index


def _start(
    kind: str, ids: Integers, places: Integers, vectors: BFloats16, reuse: Segment | None
) -> tuple[Ann, Integers]:
    """An index to add to, and the numbers of the queries that it has."""
    index = None if reuse is None else reuse.index(kind)
    if reuse is None or index is None or index.fits < len(ids):
        random = np.random.default_rng(0)
        some = random.choice(places, Ann.sample_for(len(ids)), replace=False)
        return Ann.fitted(lengthened(vectors[np.sort(some)]), len(ids)), ids[:0]
    before = reuse.ids(kind)
    gone = np.setdiff1d(before, ids, assume_unique=True)
    if 2 * len(gone) > len(before):
        return index.empty(), ids[:0]
    index.remove(gone)
    return index, np.setdiff1d(before, gone, assume_unique=True)
