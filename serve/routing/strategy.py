"""The interface of every routing strategy: it ranks the candidates for a request."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from deployments.contract import ChatRequest, Chunk

if TYPE_CHECKING:
    from serve.routing.batches import Routes

Probe = Callable[[str, ChatRequest], Awaitable[Chunk]]
"""Calls an available model before any is ranked, and returns its whole answer: a few times for
each request, within its deadline. Attempts and cost count as the request's. Raises LLMError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Which model should answer this request?

    Attributes:
        candidates: the models that are allowed and able to answer it.
        available: those of them that run and take requests; at least one.
        query: the text that stands for the conversation; "" if it has none, or there is no store.
        characters: of the whole prompt; 0 if there is no store.
        has_images: whether the prompt has images, which `characters` leaves out.
        requirement: mean quality to hold, or the least quality for this request, 0 to 1.
        floor: whether `requirement` is for this request alone.
        owner: the caller whose wish made the requirement or the candidates what they are: the
            key's name, "" without a key. None where they are as the server has them configured.
        asleep: those of `available` that are scaled to zero; one that is ranked first is started
            for later requests, and the others are ranked again for this one.
        chat: the request itself; None in a batch, where no model answers.
        probe: calls a model before any is ranked; None in a batch, too.
    """

    candidates: Sequence[str]
    available: Sequence[str]
    query: str = ""
    characters: int = 0
    has_images: bool = False
    requirement: float = 0.0
    floor: bool = False
    owner: str | None = None
    asleep: Sequence[str] = ()
    chat: ChatRequest | None = None
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class BatchQuestion:
    """Which model should answer each of these n queries?

    Attributes:
        queries: texts.
        candidates: for each query, the available models that may answer it.
        requirement: mean quality to hold, or the least quality for each query, 0 to 1.
        floor: whether `requirement` is for each query alone.
        input_tokens: lengths of the prompts; estimated from the queries' characters if None.
        capacities: the most queries that a model may get, for models with a limit; not with
            `floor`.
    """

    queries: Sequence[str]
    candidates: Sequence[Sequence[str]]
    requirement: float
    floor: bool = False
    input_tokens: Sequence[float] | None = None
    capacities: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The available models, best first, and why.

    Attributes:
        models: names.
        reason: for people, one line; "" if there was nothing to weigh.
        quality, cost: what was predicted of each, 0 to 1 and USD; empty without predictions.
        policy: the name of the policy that decided; None if none did.
        output_tokens: what length was predicted of each answer, likewise.
        guessed: those of the models whose quality is a guess, since no answer of theirs has been
            scored yet.
        propensity: the probability with which the first model was chosen, 0 to 1.
        explores: whether the first model was chosen because too little is known of it.
        answered: whether the first model has answered already, as a probe.
        said: the digest of that answer; None if it has none.
        spent: what probes were predicted to cost, in USD, but for an answer that counts.
    """

    models: list[str]
    reason: str = ""
    quality: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    policy: str | None = None
    output_tokens: Mapping[str, float] = field(default_factory=dict)
    guessed: Collection[str] = ()
    propensity: float = 1.0
    explores: bool = False
    answered: bool = False
    said: int | None = None
    spent: float = 0.0


@dataclass(frozen=True, slots=True)
class Preview:
    """What a strategy would do with a request now.

    Attributes:
        ranking: as `Strategy.rank` would give it.
        multiplier: USD that a unit of quality is worth now, by which models are ranked for the
            least cost − multiplier · quality; None where nothing is weighed so.
        uncertainty: the standard deviation of each predicted quality.
        near: the numbers of the nearest past queries, and their cosines.
        past: texts of these, by number; None if they are not shown.
        cold: whether qualities are guessed from prices, since no answer has been scored yet.
    """

    ranking: Ranking
    multiplier: float | None = None
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    near: Sequence[tuple[int, float]] = ()
    past: Mapping[int, str] | None = None
    cold: bool = False


class Strategy(Protocol):
    """Decides which model is called first. What it needs (counters, stores, prices) is passed in
    when it is made."""

    async def rank(self, question: Question) -> Ranking:
        """The available models, best first."""
        ...


@runtime_checkable
class PreviewStrategy(Protocol):
    """A strategy that can say what it would do."""

    async def preview(self, question: Question) -> Preview:
        """What `rank` would do now. Nothing is counted, learned or moved by it."""
        ...


@runtime_checkable
class BatchStrategy(Protocol):
    """A strategy that can weigh the queries of a batch against each other."""

    async def route(self, question: BatchQuestion) -> "Routes":
        """Decides a whole batch."""
        ...


async def decide_batch(strategy: Strategy, question: BatchQuestion) -> "Routes | list[Ranking]":
    """Decides a batch: as a whole if the strategy can do that, otherwise query by query."""
    if isinstance(strategy, BatchStrategy):
        return await strategy.route(question)
    return [
        await strategy.rank(
            Question(
                candidates=candidates,
                available=candidates,
                query=query,
                characters=len(query),
                requirement=question.requirement,
                floor=question.floor,
            )
        )
        for query, candidates in zip(question.queries, question.candidates, strict=True)
    ]
