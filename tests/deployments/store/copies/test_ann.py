"""Promise: the index proposes the nearest rows, whatever the dimensions, numbers and changes."""

from pathlib import Path

import numpy as np
import pytest

from deployments.store.copies import ann as module
from deployments.store.copies.ann import Ann
from deployments.store.evidence import Floats32
from deployments.store.memory.nearest import nearest

N = 3000
FIRST = 2**40  # numbers of queries need more than 32 bits


def unit(n: int, dimensions: int, seed: int = 0) -> Floats32:
    """Random rows of length 1, in clusters like those of texts."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(50, dimensions))
    rows = centers[random.integers(50, size=n)] + random.normal(size=(n, dimensions))
    vectors: Floats32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return vectors


def proposed(index: Ann, rows: Floats32, ids: np.ndarray, most: int = 256) -> float:
    """The share of the 16 true nearest that are proposed; none is proposed that is not there."""
    queries = unit(30, rows.shape[1], seed=1)
    true = ids[nearest(queries, rows, 16)[0]]
    found = [index.candidates(query, most) for query in queries]
    assert all(np.isin(some, ids).all() and len(some) <= most for some in found)
    return float(np.mean([np.isin(t, f).mean() for t, f in zip(true, found, strict=True)]))


@pytest.mark.parametrize(("dimensions", "share"), [(7, 0.6), (8, 0.9), (24, 0.97), (384, 0.97)])
def test_the_nearest_are_proposed_in_any_number_of_dimensions(
    dimensions: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 1000)
    rows, ids = unit(N, dimensions), np.arange(FIRST, FIRST + N)
    index = Ann.fitted(rows[: Ann.sample_for(N)], N)
    index.add(ids, rows)
    assert len(index) == N
    assert proposed(index, rows, ids) > share


def test_removed_rows_are_not_proposed_and_others_still_are(tmp_path: Path) -> None:
    rows, ids = unit(N, 24), np.arange(FIRST, FIRST + N)
    index = Ann.fitted(rows, N)
    index.add(ids, rows)
    index.remove(np.concatenate([ids[::2], [1, 2]]))
    index.write(tmp_path / "index")
    again = Ann.read(tmp_path / "index")
    assert len(again) == N // 2
    assert proposed(again, rows[1::2], ids[1::2]) > 0.97


def test_rows_are_added_after_removals_as_if_nothing_had_been_there() -> None:
    rows, ids = unit(N, 24), np.arange(N)
    index = Ann.fitted(rows, N)
    fresh = index.empty()
    index.add(ids[:2000], rows[:2000])
    index.remove(ids[:700])
    index.add(ids[2000:], rows[2000:])
    fresh.add(ids[700:], rows[700:])
    assert proposed(index, rows[700:], ids[700:]) > 0.97
    for query in unit(30, 24, seed=1):
        assert len(np.intersect1d(index.candidates(query, 64), fresh.candidates(query, 64))) > 60


def test_an_emptied_index_takes_other_rows_and_leaves_the_first_as_it_was() -> None:
    rows, others, ids = unit(N, 24), unit(N, 24, seed=2), np.arange(N)
    index = Ann.fitted(rows, N)
    index.add(ids, rows)
    empty = index.empty()
    assert not len(empty.candidates(rows[0], 16))
    empty.add(ids + N, others)
    assert proposed(empty, others, ids + N) > 0.97
    assert proposed(index, rows, ids) > 0.97
