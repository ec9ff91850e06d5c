"""Promise: lengths of answers of one shape are predicted from answers of that shape, as far as
there are enough of them."""

import numpy as np
import pytest

from deployments.store.observations import MeanLength
from serve.routing.forecast.lengths import ShapeLengths

MODELS = ["small", "large"]
PLAIN = np.array([[100.0, 200.0], [50.0, 100.0]])


def known(*lengths: tuple[str, float, int]) -> ShapeLengths:
    return ShapeLengths.of(
        [MeanLength(m, "json", mean, count) for m, mean, count in lengths], MODELS
    )


def test_plain_answers_and_shapes_of_which_nothing_is_known_are_predicted_as_plain_ones() -> None:
    lengths = known(("small", 30.0, 50), ("other", 5000.0, 50))
    assert lengths.predict("text", PLAIN) is PLAIN
    assert lengths.predict("tools", PLAIN) is PLAIN
    assert known(("other", 5000.0, 50)).predict("json", PLAIN) is PLAIN


def test_many_answers_of_a_shape_outweigh_what_plain_ones_suggest() -> None:
    lengths = known(("small", 30.0, 4000), ("large", 80.0, 4000)).predict("json", PLAIN)
    assert lengths == pytest.approx(np.array([[30, 80], [30, 80]]), rel=0.01)


def test_one_answer_of_a_shape_moves_the_prediction_without_deciding_it() -> None:
    small, large = known(("small", 2000.0, 1)).predict("json", PLAIN)[0]
    assert 100 < small < 1000
    assert 200 < large < 1000


def test_a_model_without_answers_of_a_shape_compares_with_one_that_has_some() -> None:
    lengths = known(("small", 10.0, 4000)).predict("json", PLAIN)
    # Plain answers of the large model are twice as long.
    assert lengths[:, 1] == pytest.approx(2 * lengths[:, 0], rel=0.05)


def test_answers_without_a_token_are_no_division_by_zero() -> None:
    lengths = known(("small", 0.0, 3)).predict("json", np.zeros((1, 2)))
    assert lengths.tolist() == [[0, 0]]
