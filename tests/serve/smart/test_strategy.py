"""Promise: the strategy asks for forecasts only where there is a choice."""

from typing import Any, cast

from serve.routing.batches import Routes
from serve.routing.strategy import BatchQuestion, Preview, Question, Ranking
from serve.smart.strategy import SmartStrategy

ROUTES, PREVIEW = cast("Routes", object()), cast("Preview", object())


class Forecasts:
    """In place of `Smart`: ranks as it is told, and notes what it is asked."""

    def __init__(self, *ranked: str) -> None:
        self.ranking = Ranking(list(ranked), "as told")
        self.asked: list[Any] = []

    async def decide(self, question: Question) -> Ranking:
        self.asked.append(question)
        return self.ranking

    async def preview(self, question: Question) -> Preview:
        self.asked.append(question)
        return PREVIEW

    async def route(self, question: BatchQuestion) -> Routes:
        self.asked.append(question)
        return ROUTES


def question(*available: str) -> Question:
    return Question(candidates=("cheap", "dear"), available=available, query="Why?")


async def test_the_forecasts_rank_the_available_models() -> None:
    forecasts, asked = Forecasts("dear", "cheap"), question("cheap", "dear")
    assert await SmartStrategy(forecasts).rank(asked) == forecasts.ranking
    assert forecasts.asked == [asked]


async def test_with_one_available_model_there_is_nothing_to_forecast() -> None:
    forecasts = Forecasts()
    assert await SmartStrategy(forecasts).rank(question("dear")) == Ranking(["dear"])
    assert forecasts.asked == []


async def test_a_batch_is_decided_as_a_whole() -> None:
    forecasts = Forecasts()
    batch = BatchQuestion(["Why?", "How?"], [["cheap"], ["cheap", "dear"]], 0.5)
    assert await SmartStrategy(forecasts).route(batch) is ROUTES
    assert forecasts.asked == [batch]


async def test_a_preview_forecasts_as_a_choice_does() -> None:
    forecasts, asked = Forecasts(), question("cheap", "dear")
    assert await SmartStrategy(forecasts).preview(asked) is PREVIEW
    assert forecasts.asked == [asked]
