"""Promise: the benchmark of ageing changes what it says, and nothing is known before it happens."""

import numpy as np
import pytest

from ops.bench.drift.ageing import Runs, queries_for, rows, runs, table
from ops.bench.drift.changing import better, swapped, synthetic, worse

A_DAY = 5


@pytest.fixture(scope="module")
def found() -> Runs:
    return runs(synthetic(queries_for(A_DAY), 0), A_DAY)


def test_only_one_model_changes_and_by_as_much_as_is_said() -> None:
    world = synthetic(2000, 0)
    favourite = world.value.mean(axis=0).argmax()
    moved = (worse(world).quality - world.quality).mean(axis=0)
    assert moved[favourite] == pytest.approx(-0.25, abs=0.05)
    assert np.delete(moved, favourite).tolist() == [0] * 7
    moved = (better(world).quality - world.quality).mean(axis=0)
    assert moved.max() == pytest.approx(0.25, abs=0.05)
    assert (moved == 0).sum() == 7
    assert worse(world).score.mean(axis=0) == pytest.approx(worse(world).quality.mean(0), abs=0.04)


def test_swapped_models_have_each_others_scores() -> None:
    world = synthetic(2000, 0)
    after = swapped(world)
    first, other = np.flatnonzero((after.quality != world.quality).any(axis=0))
    assert np.array_equal(after.score[:, first], world.score[:, other])
    assert np.array_equal(after.score[:, other], world.score[:, first])
    assert np.array_equal(after.cost, world.cost)


def test_before_it_a_change_makes_no_difference(found: Runs) -> None:
    nothing, *others = found.values()
    for way, run in nothing.items():
        before = run.day < 0
        assert before.sum() == 60 * A_DAY
        for other in others:
            assert np.array_equal(other[way].cost[before], run.cost[before])
            assert np.array_equal(other[way].value[before], run.value[before])


def test_what_ageing_adds_is_told_beside_what_there_was(found: Runs) -> None:
    reported = rows({("synthetic", A_DAY): [found, found]})
    assert len(reported) == 3 * 5
    plain, weekly = reported[:2]
    runs_ = found["none"]
    assert plain["value"] == pytest.approx(runs_["none"].means().tolist())
    gained = runs_["7 days"].means() - runs_["none"].means()
    assert weekly["value"] == pytest.approx(gained.tolist())
    assert weekly["error"] == [0] * 4
    assert len(table(reported).splitlines()) == 2 + 3 * 5
