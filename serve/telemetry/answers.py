"""Records why a model was chosen for an answer, and what was predicted and came of it."""

from deployments.contract import Usage
from deployments.store.observations import Scored
from deployments.telemetry.conventions import INPUT, OUTPUT
from deployments.telemetry.instruments import (
    ACTUAL,
    ALWAYS_BEST,
    BETTER,
    CHOICES,
    CHOSEN,
    COMPARED_COST,
    COST,
    FORECAST_COST,
    FORECAST_QUALITY,
    FORECAST_TOKENS,
    HELD,
    KEY_COST,
    KEY_TOKENS,
    PREDICTED,
    QUALITY_CHANGES,
    REQUIRED,
    REQUIREMENT,
    WORSE,
)
from serve.dispatch.candidates import AUTO
from serve.routing.forecast.changes import Change
from serve.routing.strategy import Question, Ranking


class MeasuredAnswer:
    """What was decided for one request.

    Args:
        key: the name of the caller's key; None without one.
        question: which model should answer.
        ranking: the strategy's answer to it.
        strategy: the strategy's name.
    """

    __slots__ = ("_key", "_mode", "_question", "_ranking", "_strategy")

    def __init__(self, key: str | None, question: Question, ranking: Ranking, strategy: str):
        self._key, self._question, self._ranking = key, question, ranking
        self._strategy = strategy
        self._mode = "floor" if question.floor else "mean"

    def begun(self, model: str) -> None:
        """A model has begun to answer."""
        CHOICES.labels(model, self._strategy, self.reason(model)).inc()

    def end(self, model: str, usage: Usage | None, cost: float | None, rescued: bool) -> None:
        """The answer is complete.

        Args:
            model: that ended it.
            usage: tokens of all models that wrote a part of it.
            cost: USD, if known.
            rescued: whether several models wrote it, of which nothing was predicted together.
        """
        record_use(model, self._key, usage, cost)
        if not rescued:
            self._record_forecast(model, usage, cost)

    def reason(self, model: str) -> str:
        """The class of the reason for a choice; see `CHOICES`."""
        question, ranking = self._question, self._ranking
        if model not in ranking.models[:1]:
            return "failover"
        if ranking.explores:
            return "exploration"
        if question.chat is not None and question.chat.model != AUTO:
            return "named"
        if len(question.available) == 1:
            return "only"
        return self._mode if ranking.quality else "turn"

    def _record_forecast(self, model: str, usage: Usage | None, cost: float | None) -> None:
        quality, costs = self._ranking.quality, self._ranking.cost
        if model in quality:
            REQUIREMENT.labels(self._mode, REQUIRED).observe(self._question.requirement)
            REQUIREMENT.labels(self._mode, HELD).observe(quality[model])
        if model in quality and quality.keys() == costs.keys():
            best = max(quality, key=lambda name: (quality[name], -costs[name]))
            COMPARED_COST.labels(CHOSEN).inc(costs[model] + self._ranking.spent)
            COMPARED_COST.labels(ALWAYS_BEST).inc(costs[best])
        if cost is not None and model in costs:
            FORECAST_COST.labels(model, PREDICTED).observe(costs[model] + self._ranking.spent)
            FORECAST_COST.labels(model, ACTUAL).observe(cost)
        tokens = self._ranking.output_tokens
        if usage is not None and model in tokens:
            FORECAST_TOKENS.labels(model, PREDICTED).observe(tokens[model])
            FORECAST_TOKENS.labels(model, ACTUAL).observe(usage.completion_tokens)


def record_use(model: str, key: str | None, usage: Usage | None, cost: float | None) -> None:
    """Records what a request took.

    Args:
        model: that answered.
        key: the name of the caller's key; None without one.
        usage: its tokens, if known.
        cost: USD, if known.
    """
    if cost is not None:
        COST.labels(model).inc(cost)
        if key is not None:
            KEY_COST.labels(key).inc(cost)
    if key is not None and usage is not None:
        KEY_TOKENS.labels(key, INPUT).inc(usage.prompt_tokens)
        KEY_TOKENS.labels(key, OUTPUT).inc(usage.completion_tokens)


def record_change(change: Change) -> None:
    """Records that a model's quality has changed."""
    QUALITY_CHANGES.labels(change.model, WORSE if change.difference < 0 else BETTER).inc()


def record_score(scored: Scored, score: float) -> None:
    """Records the first score of an answer whose quality was predicted."""
    if scored.predicted is not None and scored.replaced is None:
        FORECAST_QUALITY.labels(scored.model, PREDICTED).observe(scored.predicted)
        FORECAST_QUALITY.labels(scored.model, ACTUAL).observe(score)
