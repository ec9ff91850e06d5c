"""Promise: n queries over m models give each n/m, give or take one, for every set of candidates."""

from collections import Counter
from typing import Any

import pytest

from serve.routing import SequentialRouting
from serve.routing.sequential import MAX_SETS, SequentialStrategy, Turns, rotate
from serve.routing.strategy import Question

CONFIGS = [
    {"name": "gpt-4o-mini", "backend": "openai"},
    {"name": "qwen2.5-7b", "backend": "ollama"},
    {"name": "claude", "backend": "anthropic"},
]


def test_the_usage_example_of_aios_runs() -> None:
    selected = [{"name": "gpt-4o-mini"}, {"name": "qwen2.5-7b"}]
    routing = SequentialRouting(llm_configs=CONFIGS)
    assert routing.get_model_idxs(selected, n_queries=3) == [0, 1, 0]
    assert routing.get_model_idxs(selected, n_queries=3) == [1, 0, 1]


def test_selections_do_not_affect_each_other() -> None:
    routing = SequentialRouting(CONFIGS)
    idxs = []
    for _ in range(30):
        idxs += routing.get_model_idxs(["claude", "gpt-4o-mini"])
        routing.get_model_idxs(["qwen2.5-7b", "claude", "gpt-4o-mini"], n_queries=2)
    assert Counter(idxs) == {0: 15, 2: 15}


def test_the_order_of_a_selection_does_not_matter() -> None:
    routing = SequentialRouting(CONFIGS)
    orders = [["claude", "gpt-4o-mini"], ["gpt-4o-mini", "claude"]] * 5
    assert Counter(i for names in orders for i in routing.get_model_idxs(names)) == {0: 5, 2: 5}


def test_a_model_selected_twice_counts_once() -> None:
    idxs = SequentialRouting(CONFIGS).get_model_idxs(["claude", "claude", "gpt-4o-mini"], 4)
    assert Counter(idxs) == {0: 2, 2: 2}


@pytest.mark.parametrize(
    ("selected", "n_queries", "says"),
    [
        ([], 1, "at least one"),
        (["none"], 1, "no model is called 'none'; there are: gpt-4o-mini"),
        ([{"backend": "x"}], 1, "needs a name"),
        (["claude"], -1, "negative"),
    ],
)
def test_a_wrong_selection_is_refused(selected: list[Any], n_queries: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SequentialRouting(CONFIGS).get_model_idxs(selected, n_queries)


@pytest.mark.parametrize("configs", [[], [{}], [{"name": "a"}, {"name": "a"}]])
def test_wrong_configs_are_refused(configs: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match=r"llm_configs|name"):
        SequentialRouting(configs)


async def test_a_ranking_holds_every_candidate_once_and_moves_on() -> None:
    turns = Turns()

    async def next_turn(key: str) -> int:
        return turns.next(key)

    strategy = SequentialStrategy(next_turn)
    question = Question(candidates=["c", "a", "b"], available=["c", "a", "b"])
    ranked = [(await strategy.rank(question)).models for _ in range(3)]
    assert ranked == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]
    # The order in which a caller writes the names makes no other set of them.
    other = Question(candidates=["b", "c", "a"], available=["b", "c", "a"])
    assert (await strategy.rank(other)).models == rotate(["a", "b", "c"], 3)


def test_the_number_of_sets_kept_is_bounded() -> None:
    turns = Turns()
    for number in range(MAX_SETS + 1):
        turns.next(str(number))
    assert turns.next(str(MAX_SETS)) == 1
    assert turns.next("0") == 0
