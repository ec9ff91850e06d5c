"""Promise: a score counts half as much for each half-life since it was given, and never wrongly."""

import warnings

import numpy as np
import pytest

from deployments.store.ageing import Ageing

DAY_S = 86_400.0
NOW = 2e9


def test_a_score_counts_half_for_each_half_life_since_it_was_given() -> None:
    scored_at = NOW - DAY_S * np.array([0, 7, 14, 3.5])
    assert Ageing(7 * DAY_S, NOW).freshness(scored_at) == pytest.approx([1, 0.5, 0.25, 0.5**0.5])


def test_a_score_of_a_clock_that_is_ahead_counts_as_of_now() -> None:
    assert Ageing(DAY_S, NOW).freshness(np.array([NOW + DAY_S])).tolist() == [1]


def test_a_score_too_old_for_a_float_counts_nothing_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Ageing(DAY_S, NOW).freshness(np.array([0, NOW - 200 * DAY_S])).tolist() == [0, 0]


def test_without_a_half_life_nothing_ages() -> None:
    assert Ageing.at_present(None) is None
    ageing = Ageing.at_present(2)
    assert ageing is not None
    assert ageing.half_life_s == 2 * DAY_S
