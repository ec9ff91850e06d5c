"""Promise: a copy of several segments answers as one would: newer ones count, older ones don't."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batches import MODELS, SCORED_AT, Known, batch, batch_of, part, unit

from deployments.store.ageing import Ageing
from deployments.store.copies.building import Part, build
from deployments.store.copies.copy import Copy
from deployments.store.copies.segment import EXHAUSTIVE, Segment
from deployments.store.copies.table import Sums
from deployments.store.evidence import Integers, Neighbours
from deployments.store.memory.nearest import nearest

TOPIC = 40  # numbers that differ by a multiple of it have embeddings that are near each other


def segments(folder: Path, *parts: Part) -> list[Segment]:
    """A segment of each part."""
    return [
        build(folder / f"part-{n}", [one], len(MODELS), reuse=None, deletions=True)
        for n, one in enumerate(parts)
    ]


def copy_of(folder: Path, *parts: Part, columns: Integers | None = None) -> Copy:
    return Copy(segments(folder, *parts), len(MODELS), columns)


def gone(ids: Sequence[int]) -> Part:
    """Queries that were deleted."""
    return part(batch_of(ids, []))


def told(near: Neighbours) -> list[dict[int, dict[int, tuple[float, ...]]]]:
    """For each new query, what is known of each neighbour by column; -1 is unknown."""
    known: list[dict[int, dict[int, tuple[float, ...]]]] = [
        {int(id): {} for id in ids if id >= 0} for ids in near.ids
    ]
    of = near.outcomes
    for n, row in enumerate(of.row):
        numbers = np.nan_to_num([of.quality[n], of.output_tokens[n], of.weight[n]], nan=-1)
        known[row // near.ids.shape[1]][int(near.ids.ravel()[row])][int(of.column[n])] = tuple(
            numbers.tolist()
        )
    return known


def test_neighbours_come_nearest_first_with_their_outcomes(tmp_path: Path) -> None:
    copy = copy_of(
        tmp_path,
        part(batch_of([7], [(7, "small", 0.5, 10, 4)])),
        part(batch_of([8], [(8, "large", 1.0, None, 1)])),
    )
    near = copy.neighbours(unit([7, 8]), 5)
    assert near.ids.tolist() == [[7, 8], [8, 7]]
    assert (near.similarity[:, 0] > 0.99).all()
    seven, eight = {0: (0.5, 10.0, 4.0)}, {1: (1.0, -1.0, 1.0)}
    assert told(near) == [{7: seven, 8: eight}] * 2


def test_several_segments_say_the_same_as_one(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    parts = []
    for _ in range(4):
        ids = sorted(random.choice(200, 90, replace=False).tolist())
        known: list[Known] = [
            (id, model, (None, 0.25, 1.0)[random.integers(3)], float(random.integers(100)), 1)
            for id in ids
            for model in ("small", "large")
            if random.random() < 0.4
        ]
        parts.append(part(batch_of(ids, known)))  # a third of the queries are deleted thereby
    several = copy_of(tmp_path, *parts)
    (tmp_path / "one").mkdir()
    joined = build(tmp_path / "one" / "part", parts, len(MODELS), reuse=None, deletions=False)
    one = Copy([joined], len(MODELS))
    assert (several.scored, several.unscored) == (one.scored, one.unscored)
    for kind in ("scored", "unscored"):
        assert several.ids(kind).tolist() == one.ids(kind).tolist()
    np.testing.assert_allclose(several.means().quality, one.means().quality, rtol=1e-3)
    np.testing.assert_allclose(several.means().output_tokens, one.means().output_tokens, rtol=1e-3)
    assert several.means().count.tolist() == one.means().count.tolist()
    for k in (1, 16, 300):
        found = several.neighbours(unit(range(300, 330)), k)
        assert told(found) == told(one.neighbours(unit(range(300, 330)), k))
        assert (np.diff(found.similarity, axis=1) <= 0).all()


def test_a_first_score_moves_a_query_to_the_scored_ones(tmp_path: Path) -> None:
    copy = copy_of(tmp_path, part(batch([1, 2], None)), part(batch([1], 0.0)))
    assert (copy.scored, copy.unscored) == (1, 1)
    assert told(copy.neighbours(unit([1]), 5))[0][1] == {0: (0.0, 5.0, 1.0)}


def test_queries_without_a_score_do_not_crowd_out_those_with_one(tmp_path: Path) -> None:
    copy = copy_of(tmp_path, part(batch(range(20), 1.0)), part(batch(range(100, 400), None)))
    near = copy.neighbours(unit([100]), 16)
    assert (~np.isnan(near.outcomes.quality)).sum() == 16
    assert near.ids[0, 0] == 100
    assert (np.diff(near.similarity[0]) <= 0).all()
    assert (copy.scored, copy.unscored) == (20, 300)


@pytest.mark.parametrize("k", [1, 16])
@pytest.mark.parametrize("rows", [1000, EXHAUSTIVE + 1000])
def test_deleted_queries_take_no_neighbours_place(tmp_path: Path, k: int, rows: int) -> None:
    topic = range(0, rows, TOPIC)
    copy = copy_of(tmp_path, part(batch(range(rows), 1.0)), gone(topic))
    near = copy.neighbours(unit([TOPIC]), k)
    assert (near.ids >= 0).sum() == k
    assert not np.isin(near.ids, topic).any()


def test_no_more_are_found_than_there_are(tmp_path: Path) -> None:
    nothing = Copy([], len(MODELS))
    few = copy_of(tmp_path, part(batch(range(5), 1.0)), gone([3]))
    for copy, k in ((nothing, 0), (few, 4)):
        assert len(copy) == k
        assert copy.neighbours(unit([1, 2]), 16).ids.shape == (2, k)
        assert copy.neighbours(unit([]), 16).ids.size == 0
    assert np.isnan(nothing.means().quality).all()


def test_above_the_exhaustive_bound_nearly_all_true_neighbours_are_found(tmp_path: Path) -> None:
    rows = EXHAUSTIVE + 2000
    copy = copy_of(
        tmp_path,
        part(batch(range(rows), 1.0)),
        part(batch(range(rows - 100, rows + 500), 0.0)),
        gone(range(0, rows, 3)),
    )
    copy.prepare()
    ids, queries = copy.ids("scored"), unit(range(50_000, 50_100))
    assert len(ids) == len(copy)
    near = copy.neighbours(queries, 16)
    assert np.isin(near.ids, ids).all()
    true = ids[nearest(queries, unit(ids.tolist()), 16)[0]]
    shares = [len(set(a) & set(b)) / 16 for a, b in zip(near.ids, true, strict=True)]
    assert np.mean(shares) > 0.97
    exact = np.einsum("bd,bkd->bk", queries, unit(near.ids.ravel().tolist()).reshape(100, 16, -1))
    np.testing.assert_allclose(near.similarity, exact, atol=0.01)


def test_columns_are_those_of_the_callers_models(tmp_path: Path) -> None:
    known: list[Known] = [(1, "small", 0.25, 10, 1), (1, "large", 1.0, 20, 1)]
    parts = part(batch_of([1], known)), part(batch_of([2], [(2, "small", 0.75, None, 1)]))
    copy = copy_of(tmp_path, *parts, columns=np.array([1, -1, 0]))  # large, a new one, small
    small, large = (0.25, 10.0, 1.0), (1.0, 20.0, 1.0)
    near = told(copy.neighbours(unit([1]), 2))[0]
    assert near == {1: {2: small, 0: large}, 2: {2: (0.75, -1.0, 1.0)}}
    np.testing.assert_allclose(copy.means().quality, [1.0, np.nan, 0.5])
    assert copy.means().count.tolist() == [1, 0, 2]
    without = Copy(copy.segments, len(MODELS), np.array([1]))
    assert told(without.neighbours(unit([1]), 2))[0] == {1: {0: large}, 2: {}}


def test_scores_count_as_much_as_they_are_fresh(tmp_path: Path) -> None:
    known: list[Known] = [(1, "small", 1.0, 10, 1), (1, "large", 0.5, 20, 1)]
    parts = part(batch_of([1], known)), part(batch([2], 0.0))
    plain = copy_of(tmp_path, *parts)
    assert plain.neighbours(unit([1]), 2).outcomes.freshness is None
    aged = Ageing(100.0, SCORED_AT + 100)
    for columns in (None, np.array([0, 1])):
        copy = Copy(plain.segments, len(MODELS), columns, aged)
        assert copy.means().count.tolist() == [1, 0.5]
        np.testing.assert_array_equal(copy.means().quality, plain.means().quality)
        assert copy.neighbours(unit([1]), 2).outcomes.freshness == pytest.approx([0.5] * 3)
    nothing = Copy([], len(MODELS), ageing=aged)
    assert nothing.neighbours(unit([1]), 2).outcomes.row.size == 0


def test_several_segments_age_as_one_does(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    parts = []
    for _ in range(4):
        made = batch(sorted(random.choice(200, 90, replace=False).tolist()), random.random())
        scored_at = SCORED_AT - random.integers(0, 10_000, 90).astype(np.float64)
        parts.append(part(replace(made, scored_at=scored_at)))
    several = segments(tmp_path, *parts)
    (tmp_path / "one").mkdir()
    one = build(tmp_path / "one" / "part", parts, len(MODELS), reuse=None, deletions=False)
    for now in (SCORED_AT, SCORED_AT + 5000, SCORED_AT + 20_000):  # sums are kept from the first
        ageing = Ageing(3000.0, now)
        first, second = (Copy(of, len(MODELS), ageing=ageing) for of in (several, [one]))
        exact = Sums.of(one.table, len(MODELS), ageing).means()
        for copy in (first, second):
            np.testing.assert_allclose(copy.means().count, exact.count, rtol=1e-5)
            np.testing.assert_allclose(copy.means().quality, exact.quality, rtol=1e-3)
        near = [copy.neighbours(unit([300]), 16).outcomes.freshness for copy in (first, second)]
        assert near[0] is not None
        assert near[1] is not None
        assert np.sort(near[0]) == pytest.approx(np.sort(near[1]))


def test_scores_count_again_once_a_clock_that_was_far_ahead_is_put_right(tmp_path: Path) -> None:
    opened = segments(tmp_path, part(batch(range(1, 11), 0.5)))
    for now, count in ((SCORED_AT + 1e7, 0), (SCORED_AT, 10)):
        assert Copy(opened, len(MODELS), ageing=Ageing(3000.0, now)).means().count[0] == count
