"""Promise: only a new model's outcomes are hidden, and the table shows medians of the shares."""

import numpy as np
import pytest

from ops.bench.exploring.fleets import hidden
from ops.bench.exploring.learning import SCORED, Curve, median, shares
from ops.bench.exploring.report import table
from ops.bench.exploring.sparse import sparse
from ops.bench.fitting.stores import Kind, make


def test_only_the_new_models_unknown_outcomes_are_hidden() -> None:
    history, _ = make(Kind(rows=20), 0)
    found = hidden(history, 3, np.array([2, 5]))
    assert np.flatnonzero(~np.isnan(found.quality[:, 3])).tolist() == [2, 5]
    assert np.flatnonzero(found.weight[:, 3]).tolist() == [2, 5]
    others = np.delete(np.arange(8), 3)
    assert np.array_equal(found.quality[:, others], history.quality[:, others])
    assert not np.isnan(history.quality).any()


def test_of_each_past_query_only_so_many_outcomes_stay_known() -> None:
    history, _ = make(Kind(rows=20), 0)
    found = sparse(history, 2, np.random.default_rng(0))
    assert (~np.isnan(found.quality)).sum(axis=1).tolist() == [2] * 20
    assert ((found.weight > 0) == ~np.isnan(found.output_tokens)).all()
    known = ~np.isnan(found.quality)
    assert (found.quality[known] == history.quality[known]).all()


def test_the_table_shows_the_median_share_and_who_reached_the_goal() -> None:
    curves = [Curve("fleet", 0, 0.1, [0.1 * share] * len(SCORED)) for share in (0.5, 0.9, 1.0)]
    middle, error = median(shares(curves))
    assert middle == pytest.approx([0.9] * len(SCORED))
    assert (error > 0).all()
    assert table({"data": curves}).splitlines()[2].endswith("| 1 |")
