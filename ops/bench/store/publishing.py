"""Times of publishing changes and of joining segments, in a process of its own."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray

from deployments.embedding.encoder import DEFAULT_MODEL
from deployments.store.copies.folder import Folder, Manifest
from deployments.store.copies.publisher import Publisher
from deployments.store.sql.database import Database
from deployments.store.sql.reading import Batch
from ops.bench.store.actor import SERVER
from ops.bench.store.learning import BATCH
from ops.bench.store.rows import Rows
from ops.bench.store.timing import Figures
from ops.bench.store.writing import identity
from serve.config import StoreConfig

_SMALL, _FULL = 1_024, 4_096  # rows: half of the small segment; more than that takes
_TIMES = 10
_SCORED = 0.25  # of new queries
_FAR = 0.05


def publishing(folder: Path, url: str, models: list[str]) -> Figures:
    """All figures; the store's actor must be gone, and its last copy is changed.

    Args:
        folder: of the rows.
        url: of the database.
        models: names.
    """
    remote: Any = ray.remote(num_cpus=0)(_publishing)
    figures: Figures = ray.get(remote.remote(folder, url, models))
    return figures


def _publishing(folder: Path, url: str, models: list[str]) -> Figures:
    new = _New(Rows.load(folder), models)
    publisher = _resumed(url, models, new.dimensions)
    if publisher.is_due:  # the actor ended before it had joined them
        publisher.join()
    medium_s = []
    while not publisher.is_due:
        publisher.put(new(_FULL))
        medium_s.append(_seconds(publisher.publish))
    join_s = _seconds(publisher.join)
    publisher.put(new(_SMALL))
    publisher.publish()
    small = []
    for _ in range(_TIMES):
        publisher.put(new(BATCH))
        small.append(_seconds(publisher.publish))
    return {
        "publish_ms": 1e3 * float(np.median(small)),
        "publish_medium_s": max(medium_s),
        "join_s": join_s,
    }


def _resumed(url: str, models: list[str], dimensions: int) -> Publisher:
    identities = {model: identity(model) for model in models}
    database = Database(url, DEFAULT_MODEL, dimensions, identities=identities)
    about = Manifest(
        store=database.id,
        embedding_model=database.embedding_model,
        dimensions=dimensions,
        models=tuple(identities.items()),
    )
    database.close()
    publisher = Publisher(Folder.of(*StoreConfig(url=url).copies, SERVER), about)
    if not publisher.resume():
        raise RuntimeError("the store has left no copy")
    return publisher


class _New:
    """Queries near past ones, with numbers that the store does not have."""

    def __init__(self, rows: Rows, models: list[str]) -> None:
        self._rows, self._models = rows, models
        self._random = np.random.default_rng(3)
        self._next = 2**40
        self.dimensions: int = rows.past.shape[1]

    def __call__(self, number: int) -> Batch:
        ids = np.arange(self._next, self._next + number)
        self._next += number
        near = np.sort(self._random.integers(len(self._rows), size=number))
        past = self._rows.past[near] + self._random.normal(0, _FAR, (number, self.dimensions))
        scored = self._random.uniform(size=number) < _SCORED
        return Batch(
            ids,
            np.zeros(number, np.int64),
            (past / np.linalg.norm(past, axis=1, keepdims=True)).astype(np.float16),
            self._models,
            np.arange(number),
            self._random.integers(len(self._models), size=number),
            np.where(scored, 1.0, np.nan).astype(np.float32),
            np.full(number, 50, np.float32),
            np.ones(number, np.int64),
            np.where(scored, 2e9, 0.0),
        )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
