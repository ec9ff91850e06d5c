"""The one promise of every routing strategy: a request in, its candidates in order out."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deployments.contract import ChatRequest, Chunk
from deployments.store.evidence import Floats32

Probe = Callable[[str, ChatRequest], Awaitable[Chunk]]
"""Asks an available model before any is ranked, and gives its whole answer: a few times for each
request, within its deadline. Its attempts and cost count as the request's. Raises LLMError."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a strategy may know of a request.

    Attributes:
        candidates: the models that may and can answer it.
        available: those of them that run and take requests; one at the least.
        query: the text that stands for the conversation; "" where it has none.
        characters: of the whole prompt.
        embedding: gives that of the query, or None where it can't be had.
        requirement: the quality that the request wants; the server's where None.
        floor: whether that is for this request alone, and not in the mean.
        has_images: whether the prompt is more than its characters.
        asleep: those of `available` that are woken instead of asked if they are ranked first.
        chat: the request itself, where one is to be answered.
        probe: asks a model before it is ranked, where one is to be answered.
    """

    candidates: Sequence[str]
    available: Sequence[str]
    query: str = ""
    characters: int = 0
    embedding: Awaitable[Floats32 | None] | None = None
    requirement: float | None = None
    floor: bool = False
    has_images: bool = False
    asleep: Sequence[str] = ()
    chat: ChatRequest | None = None
    probe: Probe | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The available models, best first.

    Attributes:
        models: names.
        reason: one line for people; "" where there was nothing to weigh.
        quality: what was predicted of each model, where something was.
        policy: the name of the policy that decided, where one did.
    """

    models: list[str]
    reason: str = ""
    quality: Mapping[str, float] = field(default_factory=dict)
    policy: str | None = None


class Strategy(Protocol):
    """Decides who is asked first. What it needs (counters, stores) it gets when it is made."""

    @property
    def name(self) -> str:
        """What configs, requests and answers call it."""
        ...

    async def rank(self, asked: Asked) -> Ranking:
        """The available models, best first."""
        ...
