"""Promise: without the store prices decide."""

import pytest

from serve.routing.decider import Question
from serve.routing.prices import Price
from serve.smart.strategy import by_price

PRICES = {"cheap": Price(1e-7, 4e-7), "middle": Price(1e-6, 4e-6), "dear": Price(1e-5, 4e-5)}


def question(requirement: float, *available: str) -> Question:
    return Question("Why?", None, 4, tuple(PRICES), available or tuple(PRICES), requirement)


@pytest.mark.parametrize(
    ("requirement", "order"),
    [
        (0.5, ["cheap", "middle", "dear"]),
        (0.7, ["dear", "middle", "cheap"]),
        (0.6, ["middle", "dear", "cheap"]),
        (1.0, ["dear", "middle", "cheap"]),
    ],
)
def test_the_cheapest_whose_price_promises_enough_comes_first(
    requirement: float, order: list[str]
) -> None:
    assert by_price(question(requirement), PRICES, {}).models == order


def test_a_configured_prior_counts_more_than_the_price() -> None:
    priors = {"cheap": 0.9, "middle": None}
    assert by_price(question(0.85), PRICES, priors).models[0] == "cheap"


def test_what_is_not_available_is_not_ranked_by_price_either() -> None:
    assert by_price(question(0.5, "dear", "middle"), PRICES, {}).models == ["middle", "dear"]


def test_which_models_run_does_not_change_what_is_guessed_of_them() -> None:
    assert by_price(question(0.6, "middle", "dear"), PRICES, {}).models == ["middle", "dear"]
