"""Learning from answers: their real length, cost and time go to the store after they have ended.

They go in batches, off the requests' way. Under load only a sample of them is learned, since a few
each second say as much; of the others the store keeps a record, so that feedback finds them.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from deployments.contract import ChatRequest, Chunk, Usage, merge
from deployments.embedding.cache import CachedEmbedder
from deployments.shapes import Shape
from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Learned, Observation
from deployments.telemetry.instruments import LESSONS_LOST, LESSONS_SAMPLED_OUT
from serve.actors import ActorUnavailable
from serve.dispatch.dispatcher import Dispatch
from serve.dispatch.probes import Given
from serve.routing.prices import Price
from serve.routing.strategy import Question, Ranking
from serve.smart.client import SharedStore

if TYPE_CHECKING:
    from serve.smart.judging import Judging

logger = logging.getLogger("ray.serve")

_SOURCE = "answers"
_PERIOD_S = 0.2  # between batches
_MOST_PER_S = 32.0  # answers learned with their queries; an embedding takes 3 ms of this process
_MOST_WAITING = 5_000  # answers on their way to the store; of more, the oldest are lost
_EMBEDDING_TIMEOUT_S = 10.0
_RETRY_S, _CLOSING_S = 1.0, 2.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is known of an answer before it begins.

    Attributes:
        id: of the completion; "" for a probe.
        query: the text that stands for its conversation.
        characters: of the whole prompt; None if they don't determine its length.
        predicted: the quality predicted when the model was chosen; None if it was guessed.
        policy: the name of the policy that ranked the models.
        price: of the model; None if unknown.
        limit: the most tokens that the caller allows; None if it sets no limit.
        shape: of the answer.
        chosen: whether the model was the strategy's first choice.
        propensity: the probability of that choice, 0 to 1; None if it was none by prediction.
        said: the digest of the answer; None if that isn't known.
        key: the name of the caller's key; None without one.
    """

    id: str
    query: str
    characters: int | None
    predicted: float | None
    policy: str | None
    price: Price | None
    limit: int | None = None
    shape: Shape = "text"
    chosen: bool = True
    propensity: float | None = None
    said: int | None = None
    key: str | None = None

    @classmethod
    def of(
        cls,
        id: str,
        question: Question,
        ranking: Ranking,
        model: str,
        price: Price | None,
        key: str | None = None,
    ) -> "Lesson":
        """What a strategy was asked and said, of an answer that this model begins to write for the
        caller with this key."""
        # What was guessed must not correct what is learned.
        predicted = None if model in ranking.guessed else ranking.quality.get(model)
        chat, chosen = question.chat, model in ranking.models[:1]
        return cls(
            id,
            question.query,
            None if question.has_images else question.characters,
            predicted,
            ranking.policy,
            price,
            None if chat is None else chat.output_limit,
            "text" if chat is None else chat.shape,
            chosen,
            ranking.propensity if chosen and ranking.quality else None,
            ranking.said if chosen else None,
            key,
        )

    @classmethod
    def of_probe(cls, question: Question, said: int | None) -> "Lesson":
        """What is known of a probe's answer, which nobody sees: no feedback comes for it."""
        return replace(cls.of("", question, Ranking([]), "", None), said=said)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A lesson, what its answer was like, and whether it is learned with its query.

    An answer that the caller's limit cut says nothing of how long or how slow others are.
    """

    lesson: Lesson
    model: str
    usage: Usage | None
    seconds: float
    is_cut: bool
    is_sampled: bool


class Learner:
    """Follows answers to their end. Nothing is learned from incomplete ones.

    Args:
        store: where it goes.
        embed: embeds the queries that are learned.
        identities: of the models, by their names (see `ModelConfig.identity`).

    Attributes:
        judging: scores some of the answers that are learned with their queries; None if nothing
            does.
    """

    def __init__(
        self, store: SharedStore, embed: CachedEmbedder, identities: Mapping[str, str]
    ) -> None:
        self._store, self._embed, self._identities = store, embed, identities
        self.judging: Judging | None = None
        self._waiting: deque[_Ended] = deque()
        self._allowance, self._allowed_at = _MOST_PER_S, time.monotonic()
        self._sending: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def follow(
        self, dispatch: Dispatch | Given, lesson: Lesson, request: ChatRequest | None = None
    ) -> AsyncGenerator[Chunk, None]:
        """The answer's chunks, unchanged. Nothing is learned from an answer that two models
        wrote.

        Args:
            dispatch: the answer.
            lesson: what is known of it.
            request: that it answers, if it may be scored by that.
        """
        judging = (
            self.judging if request and self.judging and self.judging.samples(request) else None
        )
        kept: list[Chunk] = []
        usage, finish, read_s, arrived = None, None, 0.0, dispatch.started
        try:
            async with aclosing(dispatch):
                async for chunk in dispatch:
                    arrived = time.monotonic()
                    usage = chunk.usage or usage
                    finish = finish or chunk.finish_reason
                    if judging is not None:
                        kept.append(chunk)
                    yield chunk
                    read_s += time.monotonic() - arrived
        finally:
            # Also if the client had the whole answer and left without reading to the end.
            if finish is not None and not dispatch.rescues:
                seconds = max(arrived - dispatch.started - read_s, 0.0)
                is_cut = finish == "length" and lesson.limit is not None
                is_sampled = self._samples()
                self._teach(_Ended(lesson, dispatch.model, usage, seconds, is_cut, is_sampled))
                if is_sampled and judging is not None and request is not None:
                    judging.take(lesson.id, dispatch.model, request, merge(kept))

    def learn_probe(self, lesson: Lesson, model: str, answer: Chunk, seconds: float) -> None:
        """Learns from a probe's answer that doesn't count; under load from a sample of them."""
        if self._samples():
            is_cut = answer.finish_reason == "length" and lesson.limit is not None
            self._teach(_Ended(lesson, model, answer.usage, seconds, is_cut, is_sampled=True))

    async def flush(self) -> None:
        """Sends what is waiting now, so that feedback finds it.

        Raises:
            ActorUnavailable: the store can't take it; it is sent later.
        """
        async with self._turn:
            batch, self._waiting = list(self._waiting), deque()
            if not batch:
                return
            try:
                items = await self._items(batch)
                refused = await self._store.learn(items)
            except BaseException:  # also a cancellation: the batch is sent again
                # Answers that are known already count once.
                self._waiting.extendleft(reversed(batch))
                self._bound()
                raise
            records = sum(isinstance(item, AnswerRecord) for item in items)
            if records:
                LESSONS_SAMPLED_OUT.labels().inc(records)
            if refused:
                LESSONS_LOST.labels().inc(refused)
                logger.warning("%s answers were not stored; see the store's log", refused)

    async def close(self) -> None:
        """Sends what is waiting, if the store takes it at once; the rest is lost."""
        try:
            async with asyncio.timeout(_CLOSING_S):
                await self.flush()
        except Exception as error:  # noqa: BLE001 - the process ends
            logger.warning("%s answers were not stored: %s", len(self._waiting), error)
            LESSONS_LOST.labels().inc(len(self._waiting))

    def _teach(self, learned: _Ended) -> None:
        self._waiting.append(learned)
        self._bound()
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    def _bound(self) -> None:
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            LESSONS_LOST.labels().inc()

    async def _send(self) -> None:
        pause = _PERIOD_S
        while self._waiting:
            await asyncio.sleep(pause)
            try:
                await self.flush()
                pause = _PERIOD_S
            except ActorUnavailable as error:
                logger.warning("answers wait for the store: %s", error)
                pause = _RETRY_S
            except Exception:  # whatever it is, later answers are to be learned
                logger.exception("answers wait, since they could not be sent to the store")
                pause = _RETRY_S

    async def _items(self, batch: list[_Ended]) -> list[Learned]:
        """A sample with their queries, and all others as records of answers."""
        texts = [learned.lesson.query for learned in batch if learned.is_sampled]
        vectors = iter(await self._embedded(texts))
        items = (
            self._item(learned, next(vectors) if learned.is_sampled else None) for learned in batch
        )
        return [item for item in items if item is not None]

    def _item(self, learned: _Ended, vector: Floats32 | None) -> Learned | None:
        """What is stored of an answer; None if it is a probe's of which nothing can be learned."""
        answer = self._record(learned) if learned.lesson.id else None
        if vector is None:
            return answer
        try:
            observation = self._observation(learned, vector)
        except ValueError as error:  # a provider's counts may be impossible
            logger.warning("nothing is learned from an answer: %s", error)
            return answer
        return observation if answer is None else (observation, answer)

    def _samples(self) -> bool:
        """Whether to learn from an answer that ends now."""
        now = time.monotonic()
        earned = (now - self._allowed_at) * _MOST_PER_S
        self._allowance = min(_MOST_PER_S, self._allowance + earned)
        self._allowed_at = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    async def _embedded(self, texts: list[str]) -> list[Floats32 | None]:
        """The embedding (d,) of each text; None for all if they can't be embedded now."""
        if not texts:
            return []
        try:
            async with asyncio.timeout(_EMBEDDING_TIMEOUT_S):
                return list(await self._embed(texts))
        except Exception as error:  # noqa: BLE001 - whatever it is, the answers are recorded
            logger.warning("nothing is learned from %s answers: %s", len(texts), error)
            return [None] * len(texts)

    def _observation(self, learned: _Ended, vector: Floats32) -> Observation:
        lesson, usage = learned.lesson, learned.usage
        return Observation(
            lesson.query,
            vector,
            learned.model,
            _SOURCE,
            output_tokens=usage.completion_tokens if usage and not learned.is_cut else None,
            seconds=None if learned.is_cut else learned.seconds,
            input_tokens=usage.prompt_tokens if usage else None,
            characters=lesson.characters,
            identity=self._identities[learned.model],
            shape=lesson.shape,
            said=lesson.said,
        )

    def _record(self, learned: _Ended) -> AnswerRecord:
        lesson = learned.lesson
        return AnswerRecord(
            lesson.id,
            learned.model,
            lesson.predicted,
            lesson.policy,
            cost(lesson.price, learned.usage),
            self._identities[learned.model],
            lesson.chosen,
            lesson.propensity,
            lesson.key,
        )


def cost(price: Price | None, usage: Usage | None) -> float | None:
    """USD that an answer cost; None if its price or length is unknown."""
    if price is None or usage is None:
        return None
    return price.cost(usage)
