"""Publishes what the store knows as copies that routers decide by.

As in a log-structured merge tree, changes first go to a small segment, which is written anew each
time; when that is full it joins one of medium size, and that in turn the large one. So a change
costs much the same however much is known. Source: O'Neil, Cheng, Gawlick and O'Neil, "The
log-structured merge-tree", Acta Informatica 33 (1996).
"""

import secrets
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from deployments.store.copies.building import Part, build
from deployments.store.copies.copy import Copy
from deployments.store.copies.folder import Folder, Manifest
from deployments.store.copies.segment import EXHAUSTIVE, Segment
from deployments.store.copies.table import Table, joined
from deployments.store.copies.vectors import BFloats16, shortened
from deployments.store.sql.reading import Batch

_RECENT = EXHAUSTIVE // 2  # rows of the small segment
_MEDIUM = 4 * EXHAUSTIVE  # rows of the medium one, or this share of the large one
_SHARE = 1 / 16
_MOST_WAITING = 100_000  # changed rows that can't be published; of more, all are read anew
_TIERS = "large", "medium", "recent"


class Publisher:
    """What changes, and the copy that was published last. Threads may call it at once.

    Args:
        folder: where copies go.
        manifest: what the copies are of, without any segments.

    Attributes:
        must_rebuild: whether changes were dropped, because too many could not be published.
    """

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self._folder, self.manifest = folder, manifest
        self._columns = {name: at for at, (name, _) in enumerate(manifest.models)}
        self._large: Segment | None = None
        self._joining: Segment | None = None  # a medium one that is being joined with the large one
        self._medium: Segment | None = None
        self._recent: Segment | None = None
        self._waiting: list[Part] = []
        self.must_rebuild = False
        self._changing, self._publishing = threading.Lock(), threading.Lock()
        self.copy = Copy([], len(self._columns))

    def resume(self) -> bool:
        """Goes on from the copy that was published last, if it is of the same store, embedding
        model and models. `manifest` then says which of the store's changes it has."""
        found = self._folder.manifest()
        if found is None or _subject(found) != _subject(self.manifest):
            return False
        segments = self._opened(found.segments)
        if segments is None:
            return False
        of = {tier: [s for s in segments if s.name.startswith(tier)] for tier in _TIERS}
        self._large, self._recent = (next(iter(of[t]), None) for t in ("large", "recent"))
        self._medium = of["medium"][-1] if of["medium"] else None
        self._joining = of["medium"][0] if len(of["medium"]) > 1 else None
        self.manifest, self.copy = found, Copy(segments, len(self._columns))
        return True

    def put(self, batch: Batch) -> None:
        """Adds queries, each replacing what was known of it."""
        if len(batch.ids):
            self._put(Part(Table.of(batch, self._columns), shortened(batch.embeddings)))

    def remove(self, ids: Iterable[int]) -> None:
        """Removes queries; unknown ones are ignored."""
        gone = np.unique(np.array(list(ids), np.int64))
        if len(gone):
            nothing = replace(Table.empty(), ids=gone, first=np.zeros(len(gone) + 1, np.int64))
            self._put(Part(nothing, _none((len(gone), self.manifest.dimensions))))

    def publish(self, **about: Any) -> bool:
        """Publishes what has changed since the last time, and what `about` sets in the manifest;
        returns whether there was anything."""
        with self._publishing:
            with self._changing:
                waiting = list(self._waiting)
            if waiting:
                self._take(waiting)
            changed = bool(waiting) or any(
                getattr(self.manifest, key) != value for key, value in about.items()
            )
            if changed:
                self._announce(**about)
                self._drop(len(waiting))  # not before: publishing may fail, such as on a full disk
            return changed

    @property
    def is_due(self) -> bool:
        """Whether `join` has something to do."""
        most = max(_MEDIUM, _SHARE * len(self._large or ()))
        return self._joining is not None or len(self._medium or ()) > most

    def join(self) -> None:
        """Joins the medium segment with the large one. Takes as long as it takes to copy that;
        copies can be published meanwhile."""
        with self._publishing:
            if self._joining is None:
                self._joining, self._medium = self._medium, None
            before, joining = self._large, self._joining
        parts = [part for part in (before, joining) if part is not None]
        large = self._built("large", parts, before, deletions=False)
        with self._publishing:
            if (self._large, self._joining) == (before, joining):  # else all was rebuilt meanwhile
                self._large, self._joining = large, None
                self._announce()

    def rebuild(self, batches: Iterator[Batch], **about: Any) -> None:
        """Replaces everything that was known when this began by these batches, in order of number,
        and publishes them with what `about` sets in the manifest. What is put or removed meanwhile
        is newer, and published after them."""
        with self._publishing:
            self._folder.make()
            with self._changing:
                before, due, self.must_rebuild = len(self._waiting), self.must_rebuild, False
            try:
                with self._read(batches) as read:
                    large = self._built("large", [read], self._similar(), deletions=False)
                fit = self.manifest.fit
                if fit is not None and not (self._folder.path / fit).exists():
                    about["fit"] = None  # somebody has deleted it
                self._large, self._joining, self._medium, self._recent = large, None, None, None
                self._announce(**about)
            except BaseException:  # whatever it is, changes that were dropped are still to be read
                self.must_rebuild |= due
                raise
            self._drop(before)

    def collect(self) -> None:
        """Deletes files that no longer count."""
        self._folder.collect(self.manifest)

    def sample(self, most: int, random: np.random.Generator) -> list[int]:
        """The numbers of scored queries, in order: all of them, or `most` drawn at random."""
        ids = self.copy.ids("scored")
        if len(ids) > most:
            ids = np.sort(random.choice(ids, most, replace=False))
        return [int(id) for id in ids]

    def ids(self) -> set[int]:
        """The numbers of all queries."""
        return {int(id) for kind in ("scored", "unscored") for id in self.copy.ids(kind)}

    def _put(self, part: Part) -> None:
        with self._changing:
            self._waiting.append(part)
            if sum(len(part.table) for part in self._waiting) > _MOST_WAITING:
                self._waiting, self.must_rebuild = [], True

    def _drop(self, number: int) -> None:
        """Drops the oldest of the changes that wait."""
        with self._changing:
            del self._waiting[:number]

    @contextmanager
    def _read(self, batches: Iterator[Batch]) -> Iterator[Part]:
        """All batches as one part, with the embeddings in a file: in memory they would take as much
        as all copies do."""
        with tempfile.TemporaryFile(dir=self._folder.path) as file:
            tables = [Table.empty()]
            for batch in batches:
                tables.append(Table.of(batch, self._columns))
                file.write(shortened(batch.embeddings).tobytes())
            file.flush()
            table = joined(tables)
            shape = len(table), self.manifest.dimensions
            vectors = np.memmap(file, np.uint16, "r", shape=shape) if len(table) else _none(shape)
            yield Part(table, vectors)

    def _similar(self) -> Segment | None:
        """The large segment of what was published last, if it is of the same texts, though perhaps
        for other models."""
        found = self._folder.manifest()
        if found is None or _texts(found) != _texts(self.manifest):
            return None
        large = [name for name in found.segments if name.startswith("large")]
        return next(iter(self._opened(large) or ()), None)

    def _opened(self, names: Sequence[str]) -> list[Segment] | None:
        """Segments of these names; None if one is damaged."""
        try:
            return [Segment(self._folder.path / name) for name in names]
        except (OSError, ValueError):
            return None

    def _take(self, waiting: Sequence[Part]) -> None:
        """Moves changes into the small segment; if it is too large, that into the medium one."""
        before = () if self._recent is None else (self._recent,)
        parts: list[Segment | Part] = [*before, *waiting]
        recent = _union(parts)
        if len(recent.table) <= _RECENT:
            self._recent = self._built("recent", [recent], None, deletions=True)
            return
        medium = [] if self._medium is None else [self._medium]
        reuse = self._medium or self._large
        self._medium = self._built("medium", [*medium, recent], reuse, deletions=True)
        self._recent = None

    def _built(
        self, tier: str, parts: Sequence[Segment | Part], reuse: Segment | None, *, deletions: bool
    ) -> Segment:
        path = self._folder.path / f"{tier}-{secrets.token_hex(8)}"
        return build(path, parts, len(self._columns), reuse=reuse, deletions=deletions)

    def _announce(self, **about: Any) -> None:
        tiers = (self._large, self._joining, self._medium, self._recent)
        segments = [segment for segment in tiers if isinstance(segment, Segment)]
        names = tuple(segment.name for segment in segments)
        self.manifest = self._folder.publish(replace(self.manifest, segments=names, **about))
        self.copy = Copy(segments, len(self._columns))


def _union(parts: Sequence[Segment | Part]) -> Part:
    """All parts as one, in memory; the last one that has a query counts."""
    table = joined([part.table for part in parts])
    vectors = _none((len(table), parts[0].vectors.shape[1]))
    for part in parts:
        vectors[table.places(part.table.ids)] = part.vectors
    return Part(table, vectors)


def _none(shape: tuple[int, int]) -> BFloats16:
    return np.zeros(shape, np.uint16)


def _texts(manifest: Manifest) -> tuple[object, ...]:
    """What the embeddings in a copy depend on."""
    return manifest.store, manifest.embedding_model, manifest.dimensions


def _subject(manifest: Manifest) -> tuple[object, ...]:
    """What everything in a copy depends on."""
    return *_texts(manifest), manifest.models
