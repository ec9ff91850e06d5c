"""Promise: the predictor is fitted again after enough scores, and before its last fit is old."""

import pytest

from serve.smart.refitting import new_scores

DAY_S = 86_400.0


@pytest.mark.parametrize(("scored", "enough"), [(0, 50), (400, 50), (10_000, 1000)])
def test_a_tenth_of_the_scored_queries_is_enough_but_no_fewer_than_50(
    scored: int, enough: int
) -> None:
    assert new_scores(scored, 1000 * DAY_S, None) == enough


def test_where_scores_age_50_are_enough_after_a_tenth_of_the_half_life() -> None:
    assert new_scores(10_000, 2.9 * DAY_S, 30) == 1000
    assert new_scores(10_000, 3 * DAY_S, 30) == 50
