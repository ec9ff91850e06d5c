"""Promise: flat arrays say of each query what was put into them, and their sums what all say."""

from collections.abc import Sequence

import numpy as np
import pytest
from batches import MODELS, SCORED_AT, Known, batch, batch_of, part

from deployments.store.ageing import Ageing
from deployments.store.copies.table import Sums, Table, joined
from deployments.store.evidence import Outcomes

Told = dict[int, dict[int, tuple[float | None, float | None, float]]]  # by query and column


def table(ids: Sequence[int], known: Sequence[Known]) -> Table:
    return part(batch_of(ids, known)).table


def told(ids: Sequence[int], outcomes: Outcomes) -> Told:
    found: Told = {id: {} for id in ids}
    for row, column, *numbers in zip(
        outcomes.row,
        outcomes.column,
        outcomes.quality,
        outcomes.output_tokens,
        outcomes.weight,
        strict=True,
    ):
        quality, tokens = (None if np.isnan(value) else float(value) for value in numbers[:2])
        assert int(column) not in found[ids[row]]
        found[ids[row]][int(column)] = quality, tokens, float(numbers[2])
    return found


def random_known(random: np.random.Generator, ids: Sequence[int]) -> list[Known]:
    """Outcomes of some models on some of the queries, that 16 bits hold exactly."""
    known: list[Known] = []
    for id in ids:
        for model in ("small", "large"):
            quality = float(random.integers(5)) / 4 if random.random() < 0.5 else None
            if random.random() < 0.6:
                known.append((id, model, quality, float(random.integers(2000)), 1 + id % 3))
    return known


def test_of_the_same_query_in_several_tables_the_last_counts() -> None:
    random = np.random.default_rng(0)
    expected: Told = {}
    tables = []
    for _ in range(5):
        ids = sorted(random.choice(60, 25, replace=False).tolist())
        known = random_known(random, ids)
        tables.append(table(ids, known))
        expected |= {id: {} for id in ids}
        for id, model, quality, tokens, count in known:
            expected[id][["small", "large"].index(model)] = quality, tokens, float(count)
    all_of_them = joined(tables)
    assert all_of_them.ids.tolist() == sorted(expected)
    ids = [*expected, *list(expected)[:7]]  # in any order, and more than once
    places = all_of_them.places(np.array(ids))
    assert told(list(range(len(ids))), all_of_them.outcomes(places)) == {
        row: expected[id] for row, id in enumerate(ids)
    }
    some = all_of_them.take(np.arange(3, len(all_of_them), 2))
    assert told(some.ids.tolist(), some.outcomes(np.arange(len(some)))) == {
        id: expected[id] for id in sorted(expected)[3::2]
    }
    qualities = {id: [known[0] for known in of.values()] for id, of in expected.items()}
    scored = [any(q is not None for q in qualities[id]) for id in sorted(expected)]
    assert all_of_them.scored.tolist() == scored
    assert all_of_them.answered.tolist() == [bool(expected[id]) for id in sorted(expected)]


def test_queries_that_are_not_there_have_no_place() -> None:
    assert table([3, 5], []).places(np.array([5, 4, 3, -1, 9])).tolist() == [1, -1, 0, -1, -1]
    assert Table.empty().places(np.array([5])).tolist() == [-1]


def test_what_other_models_did_takes_no_place() -> None:
    made = table([1, 2], [(1, "elsewhere", 1.0, 5, 1), (2, "elsewhere", 1.0, 5, 1)])
    assert made.answered.tolist() == [False, False]
    assert not len(made.column)


def test_numbers_too_large_for_16_bits_stay_finite() -> None:
    made = table([1], [(1, "small", 1.0, 1e6, 10**7)])
    means = Sums.of(made, len(MODELS)).means()
    assert means.output_tokens[0] == pytest.approx(65_000, rel=0.001)
    assert made.outcomes(np.array([0])).weight[0] == pytest.approx(65_000, rel=0.001)


def test_means_count_each_query_once_and_know_nothing_of_what_is_gone() -> None:
    known: list[Known] = [
        (1, "small", 1.0, 10, 3),
        (2, "small", 0.0, 20, 1),
        (3, "small", None, 60, 2),
        (3, "large", None, None, 1),
    ]
    all_of_them = Sums.of(table([1, 2, 3], known), 2)
    means = all_of_them.means()
    np.testing.assert_allclose(means.quality, [0.5, np.nan])
    np.testing.assert_allclose(means.output_tokens, [30, np.nan], rtol=1e-6)
    assert means.count.tolist() == [2, 0]
    left = (all_of_them - Sums.of(table([1, 2], known[:2]), 2)).means()
    np.testing.assert_allclose(left.quality, [np.nan, np.nan])
    assert left.output_tokens[0] == 60
    other_way_round = all_of_them.of_columns(np.array([-1, 1, 0])).means()
    np.testing.assert_allclose(other_way_round.quality, [np.nan, np.nan, 0.5])


def test_a_sum_taken_apart_again_is_nothing() -> None:
    made = [part(batch(range(n, n + 50), 0.1 + n / 1000, 333.3)).table for n in range(0, 500, 50)]
    total = Sums.of(joined(made), 2)
    for one in made:
        total = total - Sums.of(one, 2)
    assert np.isnan(total.means().quality).all()
    assert np.isnan(total.means().output_tokens).all()


def test_the_times_of_scores_go_with_their_outcomes() -> None:
    first = table([1, 2], [(1, "small", 1.0, 5, 1), (2, "small", None, 5, 1)])
    last = table([2, 3], [(2, "large", 0.0, 5, 1), (3, "small", 0.5, 5, 1)])
    both = joined([first, last])
    assert both.scored_at.tolist() == [SCORED_AT] * 3
    later = Ageing(100.0, SCORED_AT + 100)
    known = both.take(np.array([0, 2])).outcomes(np.array([0, 1]), later)
    assert known.freshness is not None
    assert known.freshness.tolist() == [0.5, 0.5]
    assert both.outcomes(np.array([0, 1])).freshness is None


def test_sums_of_old_scores_fade_and_those_of_lengths_do_not() -> None:
    made = table([1, 2], [(1, "small", 1.0, 10, 1), (2, "small", 0.0, 30, 5)])
    means = Sums.of(made, 2, Ageing(100.0, SCORED_AT + 200)).means()
    assert means.count.tolist() == [0.5, 0]
    assert (means.quality[0], means.output_tokens[0]) == (0.5, 20)
    gone = Sums.of(made, 2, Ageing(1.0, SCORED_AT + 1e6)).means()
    assert gone.count.tolist() == [0, 0]
    assert np.isnan(gone.quality).all()
    assert gone.output_tokens[0] == 20
