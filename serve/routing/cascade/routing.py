"""Cascading without a server: asks cheap models first where that pays, by a callback."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deployments.store.agreement import same_answer
from deployments.store.files.history import History, read_history
from serve.routing.aios import Embed, SmartRouting
from serve.routing.arrays import Floats
from serve.routing.cascade.fitting import FittedCascade, candidate_pairs, fit_cascade
from serve.routing.cascade.posterior import Pair, Past
from serve.routing.forecast.fitting import backtest_rows
from serve.routing.llm_configs import index_of
from serve.routing.prices import price_of

Agree = Callable[[str, str], bool]


class Answer(NamedTuple):
    """What a model answered: its final answer, and the tokens of all that it wrote."""

    text: str
    output_tokens: float


Ask = Callable[[int, str], Answer]


@dataclass(frozen=True, slots=True)
class Cascaded:
    """What became of a query.

    Attributes:
        model: index into `llm_configs` of the model whose answer counts.
        answer: its answer.
        asked: indices of all models that were asked, in that order.
        cost: of all their answers, in USD.
    """

    model: int
    answer: Answer
    asked: tuple[int, ...]
    cost: float


class CascadeRouting:
    """Chooses a model for each query, and may ask two cheap ones first to see whether they agree.

    Two models are asked first where that is expected to be worth its cost: if they agree, one of
    their answers mostly counts, else that of a better model. At most two are asked first, once.
    When this pays is learned from the history's answers. If it never did, no probes are sent.

    Args:
        llm_configs: the models, as for `SmartRouting`.
        performance_requirement: mean quality to hold, 0 to 1.
        n_similar: the fewest past queries to predict from.
        history: what models did on past queries, as for `SmartRouting`; to probe, outputs need the
            "answer" that was given, beside its "correctness".
        embed: texts to embeddings (n, d) of length 1; all-MiniLM-L6-v2 where None.
        agree: whether two answers say the same; by default, if they are equal but for their form.

    Raises:
        ValueError: as for `SmartRouting`, or fewer than two past queries.
    """

    def __init__(
        self,
        llm_configs: Sequence[Mapping[str, Any]],
        performance_requirement: float = 0.7,
        n_similar: int = 16,
        *,
        history: History,
        embed: Embed | None = None,
        agree: Agree = same_answer,
    ) -> None:
        if not isinstance(history, str | Path):
            history = list(history)  # it is read twice
        self._smart = SmartRouting(
            llm_configs, performance_requirement, n_similar, history=history, embed=embed
        )
        self._prices = [price_of(config) for config in llm_configs]
        self._names = list(index_of(llm_configs))
        self._agree = agree
        self._fitted = self._fit(history)
        self.performance_requirement = performance_requirement

    @property
    def performance_requirement(self) -> float:
        """Mean quality to hold; may be set between calls."""
        return self._smart.performance_requirement

    @performance_requirement.setter
    def performance_requirement(self, requirement: float) -> None:
        self._smart.performance_requirement = requirement
        self._multiplier = self._fitted.multiplier(requirement)

    @property
    def probes(self) -> list[tuple[str, str]]:
        """The names of the pairs that may be asked first; none if that never paid."""
        pairs = [probes.models for probes in self._fitted.cascade.probes]
        return [(self._names[first], self._names[second]) for first, second in pairs]

    def route(
        self, queries: Sequence[str], input_token_lengths: Sequence[float], ask: Ask
    ) -> list[Cascaded]:
        """Has every query answered.

        Args:
            queries: texts.
            input_token_lengths: tokens of each query's prompt.
            ask: called with a query's index and a model's name; returns what that model answers.
                What it raises ends the call.

        Raises:
            ValueError: lists of different lengths, an empty query, or an impossible length.
        """
        prediction, cost = self._smart.forecast(queries, input_token_lengths)
        plan = self._fitted.cascade.plan(prediction.quality, cost, self._multiplier)
        return [
            self._follow(
                plan.probed[row].tolist(), plan.answers[row].tolist(), tokens, partial(ask, row)
            )
            for row, tokens in enumerate(input_token_lengths)
        ]

    def _follow(
        self,
        probed: Sequence[int],
        answers: Sequence[int],
        tokens: float,
        ask: Callable[[str], Answer],
    ) -> Cascaded:
        """Asks the models of a plan; see `Plan` for the two lists."""
        given = {model: Answer(*ask(self._names[model])) for model in dict.fromkeys(probed)}
        first, second = (given[model].text for model in probed)
        agreed = len(given) > 1 and self._agree(first, second)
        model = answers[1 if agreed else 0]
        if model not in given:
            given[model] = Answer(*ask(self._names[model]))
        cost = sum(
            self._prices[model].input * tokens + self._prices[model].output * answer.output_tokens
            for model, answer in given.items()
        )
        return Cascaded(model, given[model], tuple(given), cost)

    def _fit(self, history: History) -> FittedCascade:
        """Fits on the past queries that the forecaster predicted without knowing them."""
        backtest, cost = self._smart.forecaster.past
        if len(backtest.truth) < 2:
            raise ValueError("the history needs at least two past queries")
        queries, answers = self._smart.history.queries, dict[str, dict[str, str]]()
        for row in read_history(history):
            answers.setdefault(row.query, {}).update(row.answers)
        given = [answers[queries[row]] for row in backtest_rows(self._smart.history)]
        agreement = {
            pair: self._agreement(given, pair) for pair in candidate_pairs(cost, backtest.truth)
        }
        return fit_cascade(Past(backtest.quality, cost, backtest.truth, agreement))

    def _agreement(self, given: Sequence[Mapping[str, str]], pair: Pair) -> Floats:
        """(n,) whether two models' past answers agree; NaN where one isn't known."""
        first, second = (self._names[model] for model in pair)
        return np.array(
            [
                self._agree(known[first], known[second])
                if first in known and second in known
                else np.nan
                for known in given
            ],
            np.float64,
        )
