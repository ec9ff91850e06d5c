"""Asks a strategy, and puts the models in the order in which they are tried: the ranked ones, then
configured fallbacks, and last those that are scaled to zero."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from serve.availability.replicas import Availability
from serve.availability.waking import Waker
from serve.routing.strategy import Preview, PreviewStrategy, Question, Ranking, Strategy


class Ranker:
    """If the strategy would choose a model that is scaled to zero while others can answer, it is
    asked again about those.

    Args:
        availability: which models are scaled to zero.
        waker: starts them.
    """

    def __init__(self, availability: Availability, waker: Waker) -> None:
        self._sleeps = availability.sleeps
        self._waker = waker

    async def rank(
        self, strategy: Strategy, question: Question, others: Sequence[str]
    ) -> tuple[Ranking, list[str]]:
        """The strategy's ranking, and all models in order. A model that it would choose but that is
        scaled to zero is woken for later requests.

        Args:
            strategy: ranks the available models.
            question: what it is asked.
            others: configured fallbacks.
        """
        if not question.available:
            return Ranking([]), list(others)
        asleep = self._asleep(question, others)
        ranking = await strategy.rank(replace(question, asleep=asleep) if asleep else question)
        first = ranking.models[0]
        if first in asleep:
            self._waker.wake(first)
            if awake := _without(question, asleep):
                ranking = await strategy.rank(awake)
        return ranking, self._in_order(ranking, question, others)

    async def preview(
        self, strategy: PreviewStrategy, question: Question, others: Sequence[str]
    ) -> tuple[Preview, list[str]]:
        """What `rank` would give now; no model is woken."""
        if not question.available:
            return Preview(Ranking([])), list(others)
        asleep = self._asleep(question, others)
        preview = await strategy.preview(replace(question, asleep=asleep))
        if preview.ranking.models[0] in asleep and (awake := _without(question, asleep)):
            preview = await strategy.preview(awake)
        return preview, self._in_order(preview.ranking, question, others)

    def _asleep(self, question: Question, others: Sequence[str]) -> list[str]:
        """The available models that are scaled to zero, while others can answer."""
        if all(map(self._sleeps, [*question.available, *others])):
            return []  # no other model could answer in the meantime
        return [name for name in question.available if self._sleeps(name)]

    def _in_order(self, ranking: Ranking, question: Question, others: Sequence[str]) -> list[str]:
        names = dict.fromkeys([*ranking.models, *others, *question.available])
        return sorted(names, key=self._sleeps)


def _without(question: Question, asleep: Collection[str]) -> Question | None:
    """The question about the models that are awake; None without any."""
    awake = [name for name in question.available if name not in asleep]
    return replace(question, available=awake) if awake else None
