"""Past queries made up for tests of copies, with embeddings that depend on their numbers."""

from collections.abc import Sequence

import numpy as np

from deployments.store.copies.building import Part
from deployments.store.copies.table import Table
from deployments.store.copies.vectors import shortened
from deployments.store.evidence import Floats32
from deployments.store.sql.reading import Batch

D = 24
MODELS = (("small", "a"), ("large", "b"))
SCORED_AT = 2e9  # Unix seconds

Known = tuple[int, str, float | None, float | None, int]  # query, model, quality, length, count


def unit(ids: Sequence[int]) -> Floats32:
    """An embedding for each number, always the same, in clusters like those of texts."""
    centers = np.random.default_rng(99).normal(size=(40, D))
    rows = [centers[id % 40] + np.random.default_rng(id).normal(size=D) for id in ids]
    vectors: Floats32 = np.array(rows, np.float32).reshape(len(ids), D)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def batch(ids: Sequence[int], quality: float | None, tokens: float = 5.0) -> Batch:
    """Queries that the small model has answered."""
    return batch_of(ids, [(id, "small", quality, tokens, 1) for id in ids])


def batch_of(ids: Sequence[int], known: Sequence[Known]) -> Batch:
    """Queries, and what is known of them, both in order of number."""
    models = ["small", "elsewhere", "large"]
    numbers = [[np.nan if value is None else value for value in row[2:]] for row in known]
    quality, tokens, counts = np.array(numbers, np.float32).reshape(-1, 3).T
    return Batch(
        np.array(ids, np.int64),
        np.zeros(len(ids), np.int64),
        unit(ids).astype(np.float16),
        models,
        np.searchsorted(ids, np.array([id for id, *_ in known], np.int64)),
        np.array([models.index(model) for _, model, *_ in known], np.int64),
        quality,
        tokens,
        counts.astype(np.int64),
        np.where(np.isnan(quality), 0.0, SCORED_AT),
    )


def part(made: Batch) -> Part:
    """A batch as a part of a segment, with a column for each of MODELS."""
    columns = {name: at for at, (name, _) in enumerate(MODELS)}
    return Part(Table.of(made, columns), shortened(made.embeddings))
