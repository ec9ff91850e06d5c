"""Smart routing's strategy: ranks by what the router's copy of the store predicts."""

from typing import Protocol

from serve.routing.batches import Routes
from serve.routing.strategy import BatchQuestion, Preview, Question, Ranking


class Forecasts(Protocol):
    """What the strategy needs of `serve.smart.service.Smart`."""

    async def decide(self, question: Question) -> Ranking: ...

    async def preview(self, question: Question) -> Preview: ...

    async def route(self, question: BatchQuestion) -> Routes: ...


class SmartStrategy:
    """Decides in this process; before there is a copy of the store, by prices.

    Args:
        forecasts: what decides.
    """

    def __init__(self, forecasts: Forecasts) -> None:
        self._forecasts = forecasts

    async def rank(self, question: Question) -> Ranking:
        """The available models, best first."""
        if len(question.available) == 1:
            return Ranking(list(question.available))
        return await self._forecasts.decide(question)

    async def preview(self, question: Question) -> Preview:
        """What `rank` would do now; a single model is predicted, too."""
        return await self._forecasts.preview(question)

    async def route(self, question: BatchQuestion) -> Routes:
        """Optimises a whole batch.

        Raises:
            LLMError: see `Smart.route`.
        """
        return await self._forecasts.route(question)
