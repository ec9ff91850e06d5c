"""Scores that answers get by themselves, in a router: of a sample, each is checked, then rated by
the model that is configured as judge.

A check that fails is a score of 0. One that passes says nothing of how good the answer is, so the
judge says it. Answers are sampled before they are checked: if those that fail were scored more
often than those that pass, a model's mean would be that of its worst answers.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from deployments.answer import FinishReason
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import LLMError, UnsupportedParameter
from deployments.messages import UserMessage
from deployments.telemetry.instruments import AUTOMATIC_SCORES, JUDGE_COST
from serve.config.scoring import ScoringConfig
from serve.dispatch.candidates import needs
from serve.dispatch.dispatcher import Dispatcher
from serve.routing.prices import Price
from serve.smart.checking import is_checkable, passes
from serve.smart.learning import cost
from serve.smart.rubric import PROMPT, prompt_for, score_in
from serve.telemetry.answers import record_use

logger = logging.getLogger("ray.serve")

_MOST_AT_ONCE, _MOST_WAITING = 4, 100  # answers; of more, the newest are not scored
_TIMEOUT_S = 60.0
_MOST_TOKENS = 1024  # of a judge's reply, with what it thinks before
_COMPLETE: tuple[FinishReason, ...] = ("stop", "tool_calls")

# What became of an answer that was to be scored.
JUDGED, CHECKED, KEPT = "judged", "checked", "kept"
UNCLEAR, FAILED, DROPPED = "unclear", "failed", "dropped"


@dataclass(frozen=True, slots=True)
class _Answer:
    id: str
    model: str
    request: ChatRequest
    whole: Chunk


class Judging:
    """Scores a sample of answers, off the requests' way. It is bounded: what comes while too many
    answers wait, or while the judge can't be asked, is not scored.

    Args:
        dispatcher: calls the judge.
        identities: of the models, by their names (see `ModelConfig.identity`).
        score: learns a score, 0 to 1, of the answer with this id, unless it has one already;
            returns whether it was learned.
        draw: a random number, at least 0 and below 1.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        identities: Mapping[str, str],
        score: Callable[[str, float], Awaitable[bool]],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._dispatcher, self._identities = dispatcher, identities
        self._score, self._draw = score, draw
        self._settings, self._prices = ScoringConfig(share=0), dict[str, Price]()
        self._waiting: deque[_Answer] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    def configure(self, settings: ScoringConfig | None, prices: dict[str, Price]) -> None:
        """Applies new settings, and the prices of all models."""
        self._settings, self._prices = settings or ScoringConfig(share=0), prices
        if settings is None:
            self._waiting.clear()

    def samples(self, request: ChatRequest) -> bool:
        """Whether to score the answer to a request that begins now. A judge sees no images."""
        if self._draw() >= self._settings.share or "images" in needs(request):
            return False
        return self._settings.judge is not None or is_checkable(request)

    def take(self, id: str, model: str, request: ChatRequest, whole: Chunk) -> None:
        """Scores a whole answer later, unless it was cut or is the judge's own: models may prefer
        what they wrote themselves (Zheng et al. 2023)."""
        judge = self._settings.judge
        is_own = judge is not None and self._identities[judge] == self._identities[model]
        if is_own or whole.finish_reason not in _COMPLETE:
            return
        if len(self._waiting) >= _MOST_WAITING:
            AUTOMATIC_SCORES.labels(DROPPED).inc()
            return
        self._waiting.append(_Answer(id, model, request, whole))
        if len(self._workers) < _MOST_AT_ONCE:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    def close(self) -> None:
        """Ends. What waits is not scored."""
        self._waiting.clear()
        for worker in self._workers:
            worker.cancel()

    async def _work(self) -> None:
        while self._waiting:
            answer = self._waiting.popleft()
            try:
                outcome = await self._settle(answer)
            except LLMError as error:
                # Only its code: the message of a provider may repeat the prompt.
                logger.warning("an answer could not be scored: %s", error.code)
                outcome = FAILED
            except Exception:  # whatever it is, later answers are to be scored
                logger.exception("an answer could not be scored")
                outcome = FAILED
            if outcome is not None:
                AUTOMATIC_SCORES.labels(outcome).inc()

    async def _settle(self, answer: _Answer) -> str | None:
        """Scores an answer; what became of it, or None if there was nothing to score it by."""
        judge = self._settings.judge
        # Before the check, or only those that fail it would be scored while the judge is away.
        if judge is not None and not self._dispatcher.is_ready(judge):
            return DROPPED
        passed = await asyncio.to_thread(passes, answer.request, answer.whole)
        outcome, score = CHECKED, None if passed is None else float(passed)
        if judge is not None and passed is not False:
            outcome, score = JUDGED, score_in(await self._reply(judge, answer))
            if score is None:
                return UNCLEAR
        if score is None:
            return None
        return outcome if await self._score(answer.id, score) else KEPT

    async def _reply(self, judge: str, answer: _Answer) -> str:
        """What the judge says of an answer."""
        prompt = prompt_for(self._settings.prompt or PROMPT, answer.request, answer.whole)
        request = ChatRequest(
            model=judge,
            messages=[UserMessage(role="user", content=prompt)],
            temperature=0,
            max_completion_tokens=_MOST_TOKENS,
        )
        deadline = time.monotonic() + _TIMEOUT_S
        try:
            return await self._ask(request, deadline)
        except UnsupportedParameter as error:
            # Some models that reason take no temperature.
            without = request.model_copy(update=dict.fromkeys(error.lacking))
            if without == request:
                raise
            return await self._ask(without, deadline)

    async def _ask(self, request: ChatRequest, deadline: float) -> str:
        dispatch = self._dispatcher.dispatch(request, [request.model], deadline)
        await dispatch.begin()
        reply = merge([chunk async for chunk in dispatch])
        usd = cost(self._prices.get(request.model), reply.usage)
        record_use(request.model, None, reply.usage, usd)
        if usd is not None:
            JUDGE_COST.labels().inc(usd)
        return reply.text
