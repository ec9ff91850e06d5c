"""Promise: recorded answers can be replayed; what was asked and paid is told as it was."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from deployments.store.evidence import Floats32
from serve.routing import Answer, CascadeRouting

RIGHT = {"tiny": 0.6, "small": 0.65, "large": 0.97}  # how often a model is
PRICES = {"tiny": 1e-7, "small": 1.2e-7, "large": 5e-6}  # USD for a token
CONFIGS = [
    {"name": name, "cost_per_input_token": price, "cost_per_output_token": price}
    for name, price in PRICES.items()
]
TOKENS = 10.0  # of each answer


def embed(texts: Sequence[str]) -> Floats32:
    """All queries are alike, but for the lengths of their prompts."""
    return np.ones((len(texts), 1), np.float32)


def recorded(n: int, seed: int) -> list[dict[str, Any]]:
    """Queries with all models' answers; every wrong answer is one of its own."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        right = {name: random.random() < share for name, share in RIGHT.items()}
        outputs = [
            {
                "model_name": name,
                "correctness": int(right[name]),
                "output_token_length": TOKENS,
                "answer": "yes" if right[name] else f"the error of {name}",
            }
            for name in RIGHT
        ]
        query = f"{seed} {number} " + "and so on " * int(random.integers(0, 60))
        rows.append({"query": query, "input_token_length": 8, "outputs": outputs})
    return rows


def routing(history: list[dict[str, Any]], requirement: float = 0.9, **more: Any) -> CascadeRouting:
    return CascadeRouting(CONFIGS, requirement, history=history, embed=embed, **more)


class Replay:
    """Answers as they were recorded, and notes who was asked."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.outputs = [{out["model_name"]: out for out in row["outputs"]} for row in rows]
        self.queries = [row["query"] for row in rows]
        self.lengths = [len(query) / 4 for query in self.queries]
        self.asked: list[tuple[int, str]] = []

    def ask(self, query: int, model: str) -> Answer:
        self.asked.append((query, model))
        output = self.outputs[query][model]
        return Answer(output["answer"], output["output_token_length"])


def test_probing_holds_the_requirement_for_less_than_the_best_model_costs() -> None:
    cascade, replay = routing(recorded(180, 0)), Replay(recorded(300, 1))
    assert cascade.probes == [("tiny", "small")]
    routed = cascade.route(replay.queries, replay.lengths, replay.ask)
    assert np.mean([one.answer.text == "yes" for one in routed]) > 0.87
    dearest = sum(PRICES["large"] * (length + TOKENS) for length in replay.lengths)
    assert sum(one.cost for one in routed) < 0.8 * dearest


def test_each_model_is_asked_once_and_paid_for_once() -> None:
    cascade, replay = routing(recorded(180, 0)), Replay(recorded(100, 1))
    routed = cascade.route(replay.queries, replay.lengths, replay.ask)
    names = list(RIGHT)
    assert replay.asked == [
        (row, names[model]) for row, one in enumerate(routed) for model in one.asked
    ]
    assert {len(one.asked) for one in routed} >= {2, 3}
    for one, length in zip(routed, replay.lengths, strict=True):
        assert len(set(one.asked)) == len(one.asked)
        assert one.model in one.asked
        paid = sum(PRICES[names[model]] * (length + TOKENS) for model in one.asked)
        assert one.cost == pytest.approx(paid)


def test_without_recorded_answers_nobody_is_probed() -> None:
    history = recorded(180, 0)
    for row in history:
        for output in row["outputs"]:
            del output["answer"]
    cascade, replay = routing(history), Replay(recorded(50, 1))
    assert cascade.probes == []
    routed = cascade.route(replay.queries, replay.lengths, replay.ask)
    assert {len(one.asked) for one in routed} == {1}


def test_the_caller_says_what_agreement_is() -> None:
    assert routing(recorded(180, 0), agree=lambda one, other: False).probes == []


def test_a_lower_requirement_costs_less() -> None:
    cascade, replay = routing(recorded(180, 0)), Replay(recorded(50, 1))
    dear = cascade.route(replay.queries, replay.lengths, replay.ask)
    cascade.performance_requirement = 0.3
    cheap = cascade.route(replay.queries, replay.lengths, replay.ask)
    assert sum(one.cost for one in cheap) < sum(one.cost for one in dear) / 5


def test_a_history_may_come_from_an_iterator() -> None:
    assert routing(iter(recorded(180, 0))).probes == [("tiny", "small")]  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [0, 1])
def test_a_history_too_short_to_learn_from_is_refused(rows: int) -> None:
    with pytest.raises(ValueError, match="at least two past queries"):
        routing(recorded(rows, 0))


@pytest.mark.parametrize("requirement", [-0.1, 1.1])
def test_an_impossible_requirement_is_refused(requirement: float) -> None:
    with pytest.raises(ValueError, match="performance_requirement"):
        routing(recorded(20, 0), requirement)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 queries, but 1 input_token_lengths"):
        routing(recorded(20, 0)).route(["Why?", "How?"], [2], Replay([]).ask)
