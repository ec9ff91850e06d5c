"""Promise: past queries in memory agree with the database, and can be searched while written."""

import threading

import numpy as np

from deployments.store.memory.rows import Rows
from deployments.store.observations import Outcome, StoredRow

D = 16


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=D).astype(np.float32)
    return vector / np.linalg.norm(vector)


def row(id: int, revision: int = 0, **outcomes: Outcome) -> StoredRow:
    return StoredRow(id, f"query {id}", unit(id), outcomes, revision=revision)


def scored(quality: float, tokens: float | None = None, count: int = 1) -> Outcome:
    return Outcome(quality, tokens, count)


def answered(tokens: float) -> Outcome:
    return Outcome(None, tokens, 1)


def nearest(rows: Rows, id: int, k: int = 1) -> list[int]:
    return [int(near) for near in rows.neighbours(unit(id)[None], k).ids[0]]


def test_neighbours_come_with_their_outcomes() -> None:
    rows = Rows(["small", "large"], D)
    rows.put([row(7, small=scored(0.5, 10, 4)), row(8, large=scored(1.0))])
    near = rows.neighbours(np.stack([unit(7), unit(8)]), 5)
    assert near.ids.tolist() == [[7, 8], [8, 7]]
    assert (near.similarity[:, 0] > 0.99).all()
    known = near.outcomes
    order = np.argsort(known.row)
    assert known.row[order].tolist() == [0, 1, 2, 3]
    assert known.column[order].tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(known.quality[order], [0.5, 1, 1, 0.5])
    np.testing.assert_allclose(known.output_tokens[order], [10, np.nan, np.nan, 10])
    np.testing.assert_allclose(known.weight[order], [4, 1, 1, 4])


def test_unscored_rows_do_not_crowd_out_scored_ones() -> None:
    rows = Rows(["small"], D)
    rows.put([row(id, small=scored(1.0)) for id in range(20)])
    rows.put([row(id, small=answered(5)) for id in range(100, 400)])
    near = rows.neighbours(unit(100)[None], 16)
    assert (~np.isnan(near.outcomes.quality)).sum() == 16
    assert near.ids[0, 0] == 100
    assert (np.diff(near.similarity[0]) <= 0).all()
    assert (len(rows), rows.unscored) == (20, 300)


def test_a_first_score_moves_a_row_to_the_scored_ones() -> None:
    rows = Rows(["small"], D)
    rows.put([row(1, small=answered(5))])
    rows.put([row(1, small=scored(0.0, 5))])
    assert (len(rows), rows.unscored) == (1, 0)
    assert nearest(rows, 1, 5) == [1]


def test_an_older_revision_that_arrives_late_changes_nothing() -> None:
    rows = Rows(["small"], D)
    rows.put([row(1, 7, small=scored(1.0, 5))])
    rows.put([row(1, 6, small=answered(5))])
    assert (len(rows), rows.unscored, rows.means().quality[0]) == (1, 0, 1)
    rows.put([row(1, 8, small=scored(0.0, 5))])
    assert rows.means().quality[0] == 0
    rows.remove([1])
    rows.put([row(2, 1, small=scored(0.5, 5))])  # reuses its place, but not its revision
    assert rows.means().quality[0] == 0.5
    rows.put([row(id, id, small=scored(1.0)) for id in range(10, 3000)])
    rows.put([row(2, 0, small=scored(0.0)), row(2000, 1999, small=scored(0.0))])
    assert rows.means().quality[0] == np.float32(2990.5 / 2991)


def test_means_follow_every_change() -> None:
    rows = Rows(["small", "large"], D)
    rows.put([row(1, small=scored(1.0, 10, 3)), row(2, small=scored(0.0, 20)), row(3)])
    means = rows.means()
    np.testing.assert_allclose(means.quality, [0.75, np.nan])
    np.testing.assert_allclose(means.output_tokens, [12.5, np.nan])
    assert means.count.tolist() == [2, 0]
    rows.put([row(2, small=scored(1.0, 20))])
    assert rows.means().quality[0] == 1
    rows.remove([1, 2, 99])
    assert np.isnan(rows.means().quality).all()
    assert rows.means().count.tolist() == [0, 0]


def test_a_removed_row_is_not_found_and_its_place_is_reused() -> None:
    rows = Rows(["small"], D)
    rows.put([row(id, small=scored(1.0)) for id in range(5)])
    rows.remove([2])
    assert 2 not in nearest(rows, 2, 5)
    assert rows.ids() == {0, 1, 3, 4}
    rows.put([row(50, small=scored(0.0))])
    assert nearest(rows, 50) == [50]
    assert len(rows) == 5


def test_other_models_take_no_place() -> None:
    rows = Rows(["small"], D)
    rows.put([row(1, other=scored(1.0))])
    assert len(rows) == 0
    assert rows.neighbours(unit(1)[None], 3).ids.shape == (1, 0)


def test_a_sample_has_scored_rows_and_a_snapshot_their_texts() -> None:
    rows = Rows(["small", "large"], D)
    stored = [row(id, small=scored(id / 5000)) for id in range(3000)]
    rows.put(stored)
    rows.put([row(5000, small=answered(1))])
    random = np.random.default_rng(0)
    assert rows.sample(10_000, random) == list(range(3000))
    some = rows.sample(100, random)
    assert len(set(some)) == 100
    assert some == sorted(some)
    snapshot = rows.snapshot(stored[:2])
    assert snapshot.queries == ["query 0", "query 1"]
    assert snapshot.embeddings.shape == (2, D)
    assert snapshot.quality.shape == (2, 2)
    assert rows.snapshot([]).embeddings.shape == (0, D)


def test_searches_work_while_rows_change() -> None:
    rows = Rows(["small"], D)
    rows.put([row(id, small=scored(1.0)) for id in range(500)])
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for start in range(500, 3000, 50):
                rows.put([row(id, small=scored(0.5)) for id in range(start, start + 50)])
                rows.remove(range(start, start + 25))
        except BaseException as error:  # noqa: BLE001 - reported to the test
            failures.append(error)

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        near = rows.neighbours(unit(3)[None], 16)
        assert near.ids[0, 0] == 3
        assert near.outcomes.quality.shape == (16,)
    assert not failures
    assert len(rows) == 500 + 25 * 50
