"""From a request and its caller to an answer, without HTTP.

A front end parses its own API's request, asks `Core.answer`, and writes its own API's reply.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deployments.config import ModelConfig
from deployments.errors import InvalidRequest, ModelUnavailable
from deployments.telemetry.instruments import DECISION_TIME
from serve.access.keys import Caller
from serve.answer import Answer, Chunks
from serve.availability.circuits import Circuits
from serve.availability.replicas import Availability
from serve.availability.waking import Waker
from serve.config import RouterConfig
from serve.dispatch.candidates import AUTO, able, candidates, fallbacks, needs
from serve.dispatch.deadlines import within
from serve.dispatch.dispatcher import Dispatch, Dispatcher
from serve.dispatch.probes import Given, Probes
from serve.handles import Handle
from serve.ranker import Ranker
from serve.request import Request
from serve.routing.prices import Price
from serve.routing.strategy import Preview, PreviewStrategy, Question, Ranking, Strategy
from serve.smart.learning import Lesson
from serve.smart.queries import prompt_characters, query_of
from serve.strategies import STRATEGIES, Context, Kind, Strategies
from serve.telemetry.answers import MeasuredAnswer

if TYPE_CHECKING:
    from serve.smart.service import Smart


@dataclass(frozen=True, slots=True)
class Previewed:
    """What would be done with a request.

    Attributes:
        strategy: the name of the strategy that would choose.
        question: what it would be asked.
        preview: what it would say.
        ranked: all models in the order in which they would be tried.
    """

    strategy: str
    question: Question
    preview: Preview
    ranked: Sequence[str]


class Core:
    """Finds the models that may answer a request, has the strategy choose, and gets the answer.

    Args:
        models: all models that answer, by their names.
        handles: how each is reached.
        availability: which of them have running replicas.
        circuits: which of them keep failing.
        windows: their context windows, as far as they are known.
        smart: smart routing, if it is configured.
        kinds: the strategies there are, by their names.
        embedders: the names of models that embed instead.
        in_flight: counts the calls of each model in progress; another core's, if that one's are to
            be counted, too.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, Handle],
        availability: Availability,
        circuits: Circuits,
        windows: Mapping[str, int],
        smart: "Smart | None",
        kinds: Mapping[str, Kind] = STRATEGIES,
        embedders: Collection[str] = (),
        in_flight: dict[str, int] | None = None,
    ) -> None:
        self.models = models
        self._embedders = dict.fromkeys(embedders)
        self.prices: Mapping[str, Price] = {}
        self._availability = availability
        self._circuits = circuits
        self._dispatcher = Dispatcher(models, handles, availability, circuits, windows, in_flight)
        self._ranker = Ranker(availability, Waker(handles))
        self._smart = smart
        if smart is not None:
            smart.judge_by(self._dispatcher)
        context = Context(lambda: self.prices, self._dispatcher.in_flight, smart)
        self._strategies = Strategies(models, context, kinds)

    async def configure(self, settings: RouterConfig, prices: dict[str, Price]) -> None:
        """Applies new settings, and the prices of all models that have one.

        Raises:
            ValueError: the server lacks something that the strategy needs.
        """
        if settings.scoring is not None:
            settings.scoring.check(self.models, has_store=self.has_smart)
        before, self.prices = self.prices, prices
        try:
            self._strategies.check(settings.strategy)
        except InvalidRequest as error:
            self.prices = before
            raise ValueError(f"user_config.router.strategy: {error}") from None
        self.settings = settings
        if self._smart is not None:
            await self._smart.configure(settings, prices)

    @property
    def in_flight(self) -> dict[str, int]:
        """How many calls of each model are in progress."""
        return self._dispatcher.in_flight

    def retire(self) -> None:
        """Leaves new requests to another core; those in progress end here."""
        if self._smart is not None:
            self._smart.retire()

    async def store_status(self, timeout_s: float) -> dict[str, Any] | None:
        """The state of the store; None if there is none."""
        return None if self._smart is None else await self._smart.status(timeout_s)

    async def close(self) -> None:
        """Hands over what is still to be learned."""
        if self._smart is not None:
            await self._smart.close()

    @property
    def has_smart(self) -> bool:
        """Whether there is smart routing."""
        return self._smart is not None

    @property
    def smart(self) -> "Smart":
        """Smart routing.

        Raises:
            InvalidRequest: it isn't configured.
        """
        if self._smart is None:
            raise InvalidRequest(
                "this server has no smart routing; its configuration needs `llms.store`, or "
                "`llms.router.strategy: smart`",
                param="router.strategy",
            )
        return self._smart

    async def answer(self, request: Request, caller: Caller, deadline: float) -> Answer:
        """Gets an answer from one of the caller's models.

        Returns once an answer has begun or, if `request.chat.stream` is false, once it is complete.

        Args:
            request: the request.
            caller: whose models may answer.
            deadline: of the whole answer, by `time.monotonic`.

        Raises:
            LLMError: the request can't be answered.
        """
        wishes = request.wishes.router
        async with within(deadline):
            name = wishes.strategy or self.settings.strategy
            strategy = self._strategies.choose(name, wishes.given)
            question, others = await self._question(request, caller)
            probes = Probes(self._dispatcher, question.available, deadline)
            question = replace(question, probe=probes.ask)
            with DECISION_TIME.labels(name).time():
                ranking, ranked = await self._ranker.rank(strategy, question, others)
        if not ranked:
            raise _none_running(question.candidates)
        dispatch: Dispatch | Given
        if ranking.answered:
            dispatch = probes.given(ranking.models[0])
        else:
            dispatch = self._dispatcher.dispatch(request.chat, ranked, deadline)
            await dispatch.begin()
        measured = MeasuredAnswer(caller.name, question, ranking, name)
        measured.begun(dispatch.model)
        return Answer(
            request.id,
            name,
            ranking,
            question.requirement,
            self.prices,
            dispatch,
            probes,
            chunks=self._followed(request.id, question, ranking, dispatch, caller),
            measured=measured,
        )

    async def preview(self, request: Request, caller: Caller, deadline: float) -> "Previewed":
        """What `answer` would do with a request now. No model is asked or woken, and nothing is
        counted, learned or moved.

        Args:
            request: the request.
            caller: whose models may answer.
            deadline: by `time.monotonic`.

        Raises:
            LLMError: the request couldn't be answered, or its strategy can't say.
        """
        wishes = request.wishes.router
        async with within(deadline):
            name = wishes.strategy or self.settings.strategy
            strategy = self._strategies.choose(name, wishes.given)
            if not isinstance(strategy, PreviewStrategy):
                raise InvalidRequest(
                    f"the strategy '{name}' can't say what it would do without doing it",
                    param="router.strategy",
                )
            question, others = await self._question(request, caller)
            preview, ranked = await self._ranker.preview(strategy, question, others)
        if not ranked:
            raise _none_running(question.candidates)
        return Previewed(name, question, preview, ranked)

    async def available(
        self, sets: Sequence[tuple[str, ...] | None], caller: Caller
    ) -> list[list[str]]:
        """Those models of each set that can answer now.

        Args:
            sets: names; None stands for all models.
            caller: whose models they may be.

        Raises:
            ModelNotFound: a model doesn't exist, or the caller may not use it.
            ModelUnavailable: no model of a set can answer.
        """
        models, available = caller.allowed(self.models), {}
        for names in set(sets):
            known = candidates(AUTO, names, models, caller.allowed(self._embedders))
            running = await self._availability.running_now(known)
            if not running:
                raise _none_running(known)
            available[names] = self._circuits.usable(running) or running
        return [available[names] for names in sets]

    def strategy_for_batch(self, name: str | None, options: Collection[str]) -> Strategy:
        """The strategy that decides a batch; see `Strategies.choose_for_batch`."""
        return self._strategies.choose_for_batch(name, self.settings.strategy, options)

    async def _question(self, request: Request, caller: Caller) -> tuple[Question, list[str]]:
        """The strategy's question: the query, and the models that are allowed, able and ready to
        answer it. Then the configured fallbacks, to be tried after those."""
        chat, wishes, models = request.chat, request.wishes, caller.allowed(self.models)
        embedders = caller.allowed(self._embedders)
        names = candidates(chat.model, wishes.models, models, embedders)
        needed = needs(chat)
        capable = able(needed, names, models)
        running = await self._availability.running_now(capable)
        others: list[str] = []
        if wishes.models is None:  # a request that lists its models allows no others
            configured = fallbacks(needed, capable, models)
            others = self._circuits.usable(self._availability.running(configured))
        # A model that keeps failing is still tried if there is no other.
        available = self._circuits.usable(running) or ([] if others else running)
        wanted = wishes.router.performance_requirement
        as_configured = wanted is None and wishes.models is None and chat.model == AUTO
        question = Question(
            candidates=capable,
            available=available,
            # Long prompts take a while to read; only forecasts and the store need them read.
            query=query_of(chat, self.settings.query) if self._smart else "",
            characters=prompt_characters(chat) if self._smart else 0,
            has_images="images" in needed,
            requirement=self.settings.performance_requirement if wanted is None else wanted,
            floor=wishes.router.floor,
            owner=None if as_configured else caller.name or "",
            chat=chat,
        )
        return question, others

    def _followed(
        self,
        id: str,
        question: Question,
        ranking: Ranking,
        dispatch: Dispatch | Given,
        caller: Caller,
    ) -> Chunks:
        """The answer's chunks. Its length, cost and time go to the store, if there is one."""
        if self._smart is None or not question.query:
            return dispatch
        price = self.prices.get(dispatch.model)
        lesson = Lesson.of(id, question, ranking, dispatch.model, price, caller.name)
        return self._smart.learner.follow(dispatch, lesson, question.chat)


def _none_running(names: Sequence[str]) -> ModelUnavailable:
    return ModelUnavailable(
        f"no replica is running for: {', '.join(names)}; see /health/ready", retry_after=1
    )
