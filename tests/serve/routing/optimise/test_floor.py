"""Promise: of the models good enough for a request the cheapest answers, else the best."""

import numpy as np
import pytest

from serve.routing.optimise.floor import above_floor


def test_the_cheapest_model_above_the_floor_comes_first_else_the_best() -> None:
    quality, cost = np.array([0.5, 0.8, 0.9]), np.array([1.0, 2.0, 3.0])
    everyone = np.ones(3, np.bool_)
    assert above_floor(quality, cost, 0.7, everyone).tolist() == [1, 2, 0]
    assert above_floor(quality, cost, 0.95, everyone).tolist() == [2, 1, 0]
    assert above_floor(quality, cost, 0.7, np.array([True, False, True])).tolist() == [2, 0]
    with pytest.raises(ValueError, match="no candidate"):
        above_floor(quality, cost, 0.7, ~everyone)
