"""An answer that has begun: its chunks, and what is known of it."""

from collections.abc import AsyncGenerator, Mapping, Sequence

from deployments.contract import Chunk, Usage, merge
from serve.dispatch.dispatcher import Dispatch
from serve.dispatch.probes import Given, Probes
from serve.dispatch.rescue import Rescue, total_usage
from serve.routing.prices import Price
from serve.routing.strategy import Ranking
from serve.smart.learning import cost
from serve.telemetry.answers import MeasuredAnswer

Chunks = AsyncGenerator[Chunk, None] | Dispatch | Given


class Answer:
    """An answer that has begun, and what is known of it.

    Read it with `async for` or `whole()`, or close it: closing stops the model. While it is being
    read another model may take over from one that breaks off, which changes `model`, `attempts` and
    `rescues`; `usage` and `cost` are known once it has ended.

    Attributes:
        id: the request's.
        strategy: the name of the strategy that chose the model.
        reason: why, in one line; "" if there was nothing to weigh.
        quality: predicted for the chosen model, if anything was.
        wanted: the quality that was required, if one was predicted.
        ranking: what the strategy predicted of each model.
        usage: tokens, as the last model reported them.
    """

    def __init__(
        self,
        id: str,
        strategy: str,
        ranking: Ranking,
        wanted: float,
        prices: Mapping[str, Price],
        dispatch: Dispatch | Given,
        probes: Probes,
        chunks: Chunks,
        measured: MeasuredAnswer,
    ) -> None:
        self.id = id
        self.strategy = strategy
        self.ranking = ranking
        self.reason = ranking.reason
        self.quality = ranking.quality.get(dispatch.model)
        self.wanted = None if self.quality is None else wanted
        self.usage: Usage | None = None
        self._prices = prices
        self._dispatch = dispatch
        self._probes = probes
        self._chunks = chunks
        self._measured = measured

    @property
    def model(self) -> str:
        """The model that is answering."""
        return self._dispatch.model

    @property
    def choice(self) -> str:
        """Why the model that is answering was chosen, in one word; see `CHOICES`."""
        return self._measured.reason(self.model)

    @property
    def attempts(self) -> int:
        """How many times a model was called, the strategy's probes included."""
        return self._dispatch.attempts + self._probes.attempts

    @property
    def rescues(self) -> Sequence[Rescue]:
        """The models that broke off after part of the answer had been sent."""
        return self._dispatch.rescues

    @property
    def cost(self) -> float | None:
        """USD, the strategy's probes included; None if a price or the usage is not known."""
        costs = [
            cost(self._prices.get(model), usage)
            for model, usage in [*self._probes.usages, (self.model, self.usage)]
        ]
        known = [usd for usd in costs if usd is not None]
        return sum(known) if len(known) == len(costs) else None

    @property
    def total_usage(self) -> Usage | None:
        """Tokens of all models that wrote a part of the answer."""
        return total_usage(self.usage, self.rescues)

    def __aiter__(self) -> "Answer":
        """The answer's chunks."""
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk.

        Raises:
            LLMError: the answer broke off and no model could resume it, or the deadline has passed.
        """
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._measured.end(self.model, self.total_usage, self.cost, bool(self.rescues))
            raise
        self.usage = chunk.usage or self.usage
        return chunk

    async def whole(self) -> Chunk:
        """The whole answer, or what is left of it, as one chunk."""
        return merge([chunk async for chunk in self])

    async def aclose(self) -> None:
        """Stops the model."""
        await self._chunks.aclose()
        # A generator that was never started doesn't close the one that it would have read.
        await self._dispatch.aclose()
