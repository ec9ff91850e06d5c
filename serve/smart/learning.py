"""Learning from answers: their real length, cost and time go to the store when they end."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from ray.serve.metrics import Counter

from deployments.contract import Chunk, Usage
from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation
from serve.actors import ActorUnavailable
from serve.dispatch.dispatcher import Dispatch
from serve.routing.prices import Price
from serve.smart.client import SharedDecider

logger = logging.getLogger("ray.serve")

_SOURCE = "answers"
_MAX_WAITING = 200  # answers on their way to the store


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is known of an answer before it begins.

    Attributes:
        id: of the completion.
        query: the text that stands for its conversation.
        characters: of the whole prompt; None if they don't determine its length.
        predicted: the quality predicted when the model was chosen.
        policy: the name of the policy that chose it.
        price: of the model; None if unknown.
    """

    id: str
    query: str
    characters: int | None
    predicted: float | None
    policy: str | None
    price: Price | None


class Learner:
    """Follows answers to their end. Nothing is learned from incomplete ones.

    Args:
        decider: stores what is learned.
        identities: of the models, by their names (see `ModelConfig.identity`).
    """

    def __init__(self, decider: SharedDecider, identities: Mapping[str, str]) -> None:
        self._decider, self._identities = decider, identities
        self._waiting: set[asyncio.Task[None]] = set()
        self._lost = Counter(
            "llm_router_lessons_lost",
            description="Answers that could not be sent to the store.",
        )

    async def follow(
        self,
        dispatch: Dispatch,
        lesson: Lesson,
        embedding: Awaitable[Floats32 | None],
    ) -> AsyncGenerator[Chunk, None]:
        """The answer's chunks, unchanged. What was learned is sent before the stream ends, so that
        feedback finds it. Nothing is learned from an answer that two models wrote."""
        usage, ended, read_s, arrived = None, False, 0.0, dispatch.started
        try:
            async with aclosing(dispatch):
                async for chunk in dispatch:
                    arrived = time.monotonic()
                    usage = chunk.usage or usage
                    ended = ended or chunk.finish_reason is not None
                    yield chunk
                    read_s += time.monotonic() - arrived
        except GeneratorExit:
            if ended and not dispatch.rescues:
                # The client had the whole answer and left without reading to the end.
                seconds = arrived - dispatch.started - read_s
                self._later(self._teach(dispatch.model, lesson, usage, seconds, embedding))
            raise
        if ended and not dispatch.rescues:
            seconds = arrived - dispatch.started - read_s
            await self._teach(dispatch.model, lesson, usage, seconds, embedding)

    async def _teach(
        self,
        model: str,
        lesson: Lesson,
        usage: Usage | None,
        seconds: float,
        embedding: Awaitable[Floats32 | None],
    ) -> None:
        """Sends what was learned, and leaves waiting for the store to a task."""
        vector = await embedding
        if vector is None:
            self._lost.inc()
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._lose(ActorUnavailable("too many answers are waiting"))
            return
        observation = Observation(
            lesson.query,
            vector,
            model,
            _SOURCE,
            output_tokens=usage.completion_tokens if usage else None,
            seconds=max(seconds, 0.0),
            input_tokens=usage.prompt_tokens if usage else None,
            characters=lesson.characters,
            identity=self._identities[model],
        )
        answer = AnswerRecord(
            lesson.id,
            model,
            lesson.predicted,
            lesson.policy,
            cost(lesson.price, usage),
            self._identities[model],
        )
        try:
            self._later(self._stored(self._decider.learn(observation, answer)))
        except ActorUnavailable as error:
            self._lose(error)

    async def _stored(self, stored: Awaitable[None]) -> None:
        try:
            await stored
        except ActorUnavailable as error:
            self._lose(error)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    def _lose(self, error: ActorUnavailable) -> None:
        self._lost.inc()
        logger.warning("an answer was not stored: %s", error)


def cost(price: Price | None, usage: Usage | None) -> float | None:
    """USD that an answer cost; None if its price or length is unknown."""
    if price is None or usage is None:
        return None
    return price.cost(usage)
