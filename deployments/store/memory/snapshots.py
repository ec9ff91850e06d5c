"""A snapshot of past queries, searched exactly: for use without a server, and by tests."""

from collections.abc import Iterable, Sequence

import numpy as np

from deployments.store.ageing import Ageing
from deployments.store.evidence import Floats32, Means, Neighbours, Snapshot
from deployments.store.files.history import Row
from deployments.store.memory.nearest import nearest
from deployments.store.observations import Outcome, StoredRow


class SnapshotEvidence:
    """Exact nearest neighbours in a snapshot. Implements `deployments.store.evidence.Evidence`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._means = snapshot.means()

    def __len__(self) -> int:
        return len(self.snapshot)

    def means(self) -> Means:
        return self._means

    def neighbours(self, embeddings: Floats32, k: int) -> Neighbours:
        ids, similarity = nearest(embeddings, self.snapshot.embeddings, k)
        return Neighbours(ids, similarity, self.snapshot.outcomes(ids.ravel()))


class _Sum:
    """Totals of what one model did on one query."""

    def __init__(self) -> None:
        self.answers = self.scored = self.counted = 0
        self.quality = self.tokens = 0.0

    def add(self, outcome: Outcome) -> None:
        self.answers += outcome.count
        if outcome.quality is not None:
            self.scored += outcome.count
            self.quality += outcome.quality * outcome.count
        if outcome.output_tokens is not None:
            self.counted += outcome.count
            self.tokens += outcome.output_tokens * outcome.count


def snapshot_of(rows: Iterable[Row], models: Sequence[str]) -> tuple[Snapshot, frozenset[str]]:
    """A history as a snapshot, still without embeddings; rows of one query are averaged by count.

    Args:
        rows: the history.
        models: the models whose outcomes are kept, in the order of the arrays' columns.

    Returns:
        The snapshot, its embeddings (n, 0), and the names in the history that are not in `models`.
        What those models did is left out, and so are queries that only they answered.
    """
    column = {model: index for index, model in enumerate(models)}
    sums: dict[str, dict[int, _Sum]] = {}
    unknown: set[str] = set()
    for row in rows:
        for model, outcome in row.outcomes.items():
            if model not in column:
                unknown.add(model)
            elif outcome.quality is not None or outcome.output_tokens is not None:
                known = sums.setdefault(row.query, {})
                known.setdefault(column[model], _Sum()).add(outcome)
    shape = (len(sums), len(models))
    quality, tokens = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    weight = np.zeros(shape, np.float32)
    for index, known in enumerate(sums.values()):
        for at, total in known.items():
            weight[index, at] = total.answers
            if total.scored:
                quality[index, at] = total.quality / total.scored
            if total.counted:
                tokens[index, at] = total.tokens / total.counted
    embeddings = np.zeros((len(sums), 0), np.float32)
    return Snapshot(list(sums), embeddings, quality, tokens, weight), frozenset(unknown)


def snapshot_of_rows(
    rows: Sequence[StoredRow],
    models: Sequence[str],
    dimensions: int,
    ageing: Ageing | None = None,
) -> Snapshot:
    """Rows of the store's database as a snapshot, with a column for each of these models."""
    column = {model: index for index, model in enumerate(models)}
    shape = (len(rows), len(models))
    quality, tokens = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    weight, said = np.zeros(shape, np.float32), np.zeros(shape, np.int64)
    scored_at = np.zeros(shape)
    for index, row in enumerate(rows):
        for model, outcome in row.outcomes.items():
            if (at := column.get(model)) is not None:
                weight[index, at] = outcome.count
                quality[index, at] = np.nan if outcome.quality is None else outcome.quality
                length = outcome.output_tokens
                tokens[index, at] = np.nan if length is None else length
                said[index, at] = outcome.said or 0
                scored_at[index, at] = outcome.scored_at or 0.0
    embeddings = np.array([row.embedding for row in rows], np.float32)
    texts = [row.query for row in rows]
    embeddings = embeddings.reshape(len(rows), dimensions)
    known = said if said.any() else None
    freshness = None if ageing is None else ageing.freshness(scored_at)
    return Snapshot(texts, embeddings, quality, tokens, weight, known, freshness)
