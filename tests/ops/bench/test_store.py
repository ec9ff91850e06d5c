"""What the store's benchmark makes up, and what it extrapolates."""

from pathlib import Path

import numpy as np
import pytest

from ops.bench.store.report import FAR, extrapolated, table
from ops.bench.store.rows import AIOS_SIMILAR, ANSWERED, NEW, Rows, prices_of, synthesise


@pytest.fixture(scope="module")
def rows() -> Rows:
    recorded = np.random.default_rng(0).normal(size=(NEW + 100, 8)).astype(np.float32)
    recorded /= np.linalg.norm(recorded, axis=1, keepdims=True)
    return synthesise(recorded, [f"query {n}" for n in range(len(recorded))], 250, 24)


def test_each_row_has_different_models(rows: Rows) -> None:
    assert rows.column.shape == (250, ANSWERED)
    assert (np.diff(rows.column, axis=1) > 0).all()
    assert set(rows.column.ravel()) == set(range(24))
    assert len(prices_of(24)) == 24


def test_recall_counts_the_true_nearest(rows: Rows) -> None:
    nearest = np.argsort(-(rows.past @ rows.new[3]))[:AIOS_SIMILAR]
    assert rows.recall(3, nearest.tolist()) == 1
    assert rows.recall(3, [-1] * AIOS_SIMILAR) == 0


def test_rows_are_the_same_for_other_processes(rows: Rows, tmp_path: Path) -> None:
    rows.save(tmp_path / "rows")
    loaded = Rows.load(tmp_path / "rows")
    assert np.array_equal(loaded.past, rows.past)
    assert list(loaded.texts) == list(rows.texts)


def test_bytes_go_on_straight_and_seconds_by_the_steeper_of_two_laws() -> None:
    results = {
        100_000: {"disk_mb": 15.0, "join_s": 1.0, "write_s": 10.0, "publish_ms": 1.0},
        1_000_000: {"disk_mb": 105.0, "join_s": 30.0, "write_s": 10.0, "publish_ms": 2.0},
    }
    far = extrapolated(results)
    assert far["disk_mb"] == pytest.approx(1005)
    assert far["join_s"] == pytest.approx(900)
    assert far["write_s"] == 10
    assert "publish_ms" not in far
    assert f"{FAR:,}, extrapolated" in table(results)


def test_one_column_alone_is_not_extrapolated() -> None:
    assert extrapolated({1_000: {"disk_mb": 1.0}}) == {}
