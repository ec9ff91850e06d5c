"""The strategy that may ask two cheap models first, and a better one where they differ."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from deployments.contract import Chunk
from deployments.errors import LLMError
from deployments.store.agreement import digest_of
from serve.routing.cascade.deciding import Probing
from serve.routing.strategy import Question, Ranking


@dataclass(frozen=True, slots=True)
class Probed:
    """What a model has answered to a probe.

    Attributes:
        answer: the whole of it.
        seconds: that it took.
    """

    answer: Chunk
    seconds: float

    @property
    def said(self) -> int | None:
        """The digest of what it says; None if that can't be compared: an answer that was cut, or a
        tool call."""
        complete = self.answer.finish_reason == "stop" and not self.answer.tool_calls
        return digest_of(self.answer.text) if complete else None


class Forecasts(Protocol):
    """What the strategy needs of `serve.smart.service.Smart`."""

    async def plan(self, question: Question) -> Ranking | Probing: ...

    def learn_probe(self, question: Question, model: str, probed: Probed) -> None: ...


class CascadeStrategy:
    """Ranks by what the router's copy of the store predicts and, where that pays, by whether two
    cheap models agree. These are asked at once, before anything of an answer is sent.

    Args:
        forecasts: what decides, and learns.
    """

    def __init__(self, forecasts: Forecasts) -> None:
        self._forecasts = forecasts

    async def rank(self, question: Question) -> Ranking:
        """The available models, best first; the first may have answered already."""
        if len(question.available) == 1:
            return Ranking(list(question.available))
        plan = await self._forecasts.plan(question)
        if isinstance(plan, Ranking):
            return plan
        probed = await _probe(question, plan)
        said = {model: each.said for model, each in probed.items()}
        agree = len(said) == 2 and len({*said.values()}) == 1 and None not in said.values()
        ranking = plan.settle(probed, agree)
        first = ranking.models[0]
        for model, each in probed.items():
            if model != first:  # that one is learned with the answer
                self._forecasts.learn_probe(question, model, each)
        return replace(ranking, said=said.get(first))


async def _probe(question: Question, plan: Probing) -> Mapping[str, Probed]:
    """What the two models have answered, by name; without one that failed."""
    found = await asyncio.gather(*(_ask(question, model) for model in plan.models))
    answers = zip(plan.models, found, strict=True)
    return {model: probed for model, probed in answers if probed is not None}


async def _ask(question: Question, model: str) -> Probed | None:
    """What a model answers; None if it fails."""
    assert question.probe is not None, "no batch is probed"
    assert question.chat is not None, "no batch is probed"
    began = time.monotonic()
    try:
        answer = await question.probe(model, question.chat)
    except LLMError:
        return None
    return Probed(answer, time.monotonic() - began)
