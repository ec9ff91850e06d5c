"""Promise: the index finds the nearest rows, even after many additions and removals."""

import threading

import numpy as np
import pytest

from deployments.store.evidence import Floats32
from deployments.store.memory.nearest import nearest
from deployments.store.memory.vector_index import VectorIndex

D = 32
LARGE = 6000  # more than are searched exhaustively


def unit(n: int, seed: int = 0) -> Floats32:
    """Random rows of length 1, in clusters like those of texts."""
    random = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(50, D))
    rows = centers[random.integers(50, size=n)] + random.normal(size=(n, D))
    vectors: Floats32 = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def filled(rows: Floats32, first: int = 0) -> VectorIndex:
    index = VectorIndex(D)
    index.add(np.arange(len(rows)) + first, rows)
    return index


def recall(index: VectorIndex, ids: np.ndarray, rows: Floats32, queries: Floats32, k: int) -> float:
    """The share of the true nearest rows that the index finds."""
    found = index.search(queries, k)[0]
    true = ids[nearest(queries, rows, k)[0]]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(found, true, strict=True)]))


@pytest.mark.parametrize("n", [1, 100, LARGE])
def test_the_nearest_are_found_and_in_order(n: int) -> None:
    rows, queries = unit(n), unit(50, seed=1)
    index = filled(rows)
    k = min(16, n)
    ids, cosines = index.search(queries, k)
    assert ids.shape == cosines.shape == (50, k)
    assert ids.dtype == np.int64
    assert cosines.dtype == np.float32
    assert np.allclose(cosines, np.einsum("bd,bkd->bk", queries, rows[ids]), atol=0.01)
    assert (np.diff(cosines, axis=1) <= 1e-6).all()
    assert recall(index, np.arange(n), rows, queries, k) >= 0.97


def test_no_more_are_found_than_exist() -> None:
    index = filled(unit(5))
    assert np.sort(index.search(unit(3), 16)[0], axis=1).tolist() == [[0, 1, 2, 3, 4]] * 3
    assert index.search(unit(0), 16)[0].shape == (0, 5)


def test_an_empty_index_finds_nothing() -> None:
    index = VectorIndex(D)
    assert len(index) == 0
    ids, cosines = index.search(unit(3), 16)
    assert ids.shape == cosines.shape == (3, 0)
    index.remove(np.array([7], np.int64))
    index.add(np.zeros(0, np.int64), unit(0))
    assert len(index) == 0


@pytest.mark.parametrize("n", [100, LARGE])
def test_an_existing_id_is_replaced(n: int) -> None:
    index, new = filled(unit(n)), unit(n, seed=5)
    index.add(np.arange(n), new)
    assert len(index) == n
    assert recall(index, np.arange(n), new, unit(50, seed=1), 16) >= 0.97


def test_of_equal_ids_in_one_call_the_last_counts() -> None:
    index, rows = VectorIndex(D), unit(3)
    index.add(np.array([4, 4, 5]), rows)
    assert len(index) == 2
    ids, cosines = index.search(rows[1:2], 1)
    assert ids.item() == 4
    assert cosines.item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("n", [100, LARGE])
def test_removed_rows_are_never_found(n: int) -> None:
    rows = unit(n)
    index = filled(rows)
    gone, stay = np.arange(0, n, 2), np.arange(1, n, 2)
    index.remove(np.concatenate([gone, [n + 1, n + 2]]))
    assert len(index) == len(stay)
    found = index.search(rows, 16)[0]
    assert not np.isin(found, gone).any()
    assert recall(index, stay, rows[stay], unit(50, seed=1), 16) >= 0.97


def test_all_rows_are_found_after_many_changes() -> None:
    kept: dict[int, Floats32] = {}
    index, random, new = VectorIndex(D), np.random.default_rng(3), 2**33
    for turn in range(12):
        rows = unit(1000, seed=turn + 10)
        ids = np.arange(new, new + 1000)
        new += 1000
        index.add(ids, rows)
        kept |= dict(zip(ids.tolist(), rows, strict=True))
        if turn > 2:
            gone = random.choice(list(kept), 1000, replace=False)
            index.remove(gone)
            for id in gone.tolist():
                del kept[id]
    ids, rows = np.array(list(kept)), np.stack(list(kept.values()))
    assert len(index) == len(kept) == 3000
    queries = unit(100, seed=1)
    assert np.isin(index.search(queries, 16)[0], ids).all()
    assert recall(index, ids, rows, queries, 16) >= 0.97
    assert len(np.unique(index.search(queries[:1], 3000)[0])) == 3000


def test_all_rows_can_be_replaced_by_others() -> None:
    index = filled(unit(LARGE))
    index.remove(np.arange(LARGE))
    assert index.search(unit(3), 4)[0].shape == (3, 0)
    rows = unit(LARGE, seed=2)
    index.add(np.arange(LARGE) + 2**31, rows)
    assert recall(index, np.arange(LARGE) + 2**31, rows, unit(50, seed=1), 16) >= 0.97


def test_threads_search_while_others_add_and_remove() -> None:
    rows = unit(LARGE)
    index = filled(rows[:3000])
    begun, done = threading.Event(), threading.Event()
    wrong: list[object] = []

    def search() -> None:
        queries = unit(4, seed=1)
        while not done.is_set():
            ids, cosines = index.search(queries, 16)
            begun.set()
            if ids.shape != (4, 16) or not np.isfinite(cosines).all() or ids.max() >= LARGE:
                wrong.append(ids)

    searching = [threading.Thread(target=search) for _ in range(2)]
    for thread in searching:
        thread.start()
    begun.wait()
    for start in range(3000, LARGE, 100):
        index.add(np.arange(start, start + 100), rows[start : start + 100])
        index.remove(np.arange(start - 3000, start - 2950))
    done.set()
    for thread in searching:
        thread.join()
    assert not wrong
    assert len(index) == 3000 + 3000 - 30 * 50
