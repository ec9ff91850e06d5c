"""Promise: without the store prices decide."""

import pytest

from serve.actors import ActorUnavailable
from serve.routing.decider import Routes
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Question, Ranking
from serve.smart.strategy import SmartStrategy, by_price

PRICES = {"cheap": Price(1e-7, 4e-7), "middle": Price(1e-6, 4e-6), "dear": Price(1e-5, 4e-5)}


def question(requirement: float, *available: str) -> Question:
    return Question(
        candidates=tuple(PRICES),
        available=available or tuple(PRICES),
        query="Why?",
        requirement=requirement,
    )


@pytest.mark.parametrize(
    ("requirement", "order"),
    [
        (0.5, ["cheap", "middle", "dear"]),
        (0.7, ["dear", "middle", "cheap"]),
        (0.6, ["middle", "dear", "cheap"]),
        (1.0, ["dear", "middle", "cheap"]),
    ],
)
def test_the_cheapest_model_whose_price_suggests_enough_comes_first(
    requirement: float, order: list[str]
) -> None:
    assert by_price(question(requirement), PRICES, {}).models == order


def test_a_configured_prior_counts_more_than_the_price() -> None:
    priors = {"cheap": 0.9, "middle": None}
    assert by_price(question(0.85), PRICES, priors).models[0] == "cheap"


def test_only_available_models_are_ranked_by_price() -> None:
    assert by_price(question(0.5, "dear", "middle"), PRICES, {}).models == ["middle", "dear"]


def test_a_guess_does_not_depend_on_which_models_run() -> None:
    assert by_price(question(0.6, "middle", "dear"), PRICES, {}).models == ["middle", "dear"]


class Unavailable:
    """Forecasts whose decider is unavailable."""

    def __init__(self) -> None:
        self.priors: dict[str, float | None] = {}

    async def decide(self, question: Question) -> Ranking:
        raise ActorUnavailable("the actor is being created")

    async def route(self, question: BatchQuestion) -> Routes:
        raise ActorUnavailable("the actor is being created")


async def test_while_the_decider_is_unavailable_prices_decide() -> None:
    ranking = await SmartStrategy(Unavailable(), lambda: PRICES).rank(question(0.5))
    assert ranking.models == ["cheap", "middle", "dear"]
    assert "unavailable" in ranking.reason


async def test_with_one_available_model_the_decider_is_not_called() -> None:
    ranking = await SmartStrategy(Unavailable(), lambda: PRICES).rank(question(0.5, "dear"))
    assert ranking == Ranking(["dear"])
