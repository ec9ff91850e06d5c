"""SmartRouting as AIOS documents it, without a server."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.store.evidence import Floats32
from serve.routing import SmartRouting
from serve.routing.prices import price_of

CONFIGS: list[dict[str, Any]] = [
    {
        "name": "gpt-4o-mini",
        "backend": "openai",
        "cost_per_input_token": 1.5e-7,
        "cost_per_output_token": 6e-7,
    },
    {
        "name": "qwen2.5-7b",
        "backend": "ollama",
        "cost_per_input_token": 1e-8,
        "cost_per_output_token": 1e-8,
    },
]
QUERIES = ["add one and two", "prove a hard theorem", "add three and four"]


def embed(texts: Sequence[str]) -> Floats32:
    """Bags of hashed words: texts that share words are near."""
    vectors = np.zeros((len(texts), 64), np.float32)
    for row, text in enumerate(texts):
        for word in text.split():
            vectors[row, zlib.crc32(word.encode()) % 64] += 1
    embeddings: Floats32 = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return embeddings


def history(n: int = 60) -> list[dict[str, Any]]:
    """The small model adds, only the large one proves."""
    return [
        {
            "query": f"{kind} number {number}",
            "input_token_length": 5,
            "outputs": [
                {"model_name": "gpt-4o-mini", "correctness": 1, "output_token_length": 50},
                {"model_name": "qwen2.5-7b", "correctness": small, "output_token_length": 20},
            ],
        }
        for number in range(n)
        for kind, small in (("add one and two", 1), ("prove a hard theorem", 0))
    ]


def routing(requirement: float = 0.7, **options: Any) -> SmartRouting:
    given: dict[str, Any] = {"history": history(), "embed": embed, **options}
    return SmartRouting(CONFIGS, requirement, 16, **given)


def test_the_usage_example_of_aios_runs_without_history_or_server() -> None:
    router = SmartRouting(llm_configs=CONFIGS, performance_requirement=0.7, n_similar=16)
    selected = [{"name": "gpt-4o-mini"}, {"name": "qwen2.5-7b"}]
    chosen = router.get_model_idxs(selected, ["What is 2 + 2?", "Why?"], [8, 3])
    assert len(chosen) == 2
    assert set(chosen) <= {0, 1}
    assert all(type(index) is int for index in chosen)


def test_the_cheap_model_answers_what_it_can() -> None:
    router = routing(0.85)
    assert router.get_model_idxs(CONFIGS, QUERIES, [4, 4, 4]) == [1, 0, 1]


def test_the_requirement_may_be_set_between_calls() -> None:
    router = routing(0.0)
    assert router.get_model_idxs(CONFIGS, QUERIES, [4, 4, 4]) == [1, 1, 1]
    router.performance_requirement = 0.85
    assert router.get_model_idxs(CONFIGS, QUERIES, [4, 4, 4]) == [1, 0, 1]
    with pytest.raises(ValueError, match="performance_requirement"):
        router.performance_requirement = 1.5
    assert router.performance_requirement == 0.85


def test_candidates_are_one_list_for_all_or_one_for_each() -> None:
    router = routing(0.85)
    assert router.get_model_idxs(["qwen2.5-7b"], QUERIES, [4, 4, 4]) == [1, 1, 1]
    each: list[list[Any]] = [["gpt-4o-mini"], CONFIGS, [{"name": "qwen2.5-7b"}]]
    assert router.get_model_idxs(each, QUERIES, [4, 4, 4]) == [0, 0, 1]


def test_predictions_have_one_row_for_a_query_and_one_column_for_a_model() -> None:
    quality, tokens = routing().predict(QUERIES, ["qwen2.5-7b", "gpt-4o-mini"])
    assert quality.shape == tokens.shape == (3, 2)
    assert quality[1, 0] < quality[0, 0]
    assert tokens[0].tolist() == pytest.approx([20, 50])
    assert routing().predict([])[0].shape == (0, 2)


def test_an_unreachable_requirement_is_reported() -> None:
    answer = routing(1.0).route(["qwen2.5-7b"], QUERIES, [4, 4, 4])
    assert answer.shortfall > 0.2
    assert answer.quality + answer.shortfall == pytest.approx(1.0)


def test_an_empty_batch() -> None:
    assert routing().get_model_idxs(CONFIGS, [], []) == []


def test_history_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "bootstrap.json").write_text(json.dumps(history()))
    router = routing(0.85, history=tmp_path / "bootstrap.json")
    assert router.get_model_idxs(CONFIGS, QUERIES, [4, 4, 4]) == [1, 0, 1]


def test_a_model_without_history_is_predicted_by_its_prior() -> None:
    new = {"name": "new", "cost_per_input_token": 1e-6, "cost_per_output_token": 1e-6}
    router = SmartRouting([*CONFIGS, new | {"prior_quality": 0.9}], history=history(), embed=embed)
    quality, tokens = router.predict(QUERIES)
    assert (quality[:, 2] > 0.3).all()
    assert (tokens[:, 2] > 0).all()


def test_models_in_the_history_that_are_not_configured_are_ignored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = history()
    rows[0]["outputs"].append({"model_name": "other", "correctness": 1, "output_token_length": 1})
    assert routing(history=rows).predict(QUERIES)[0].shape == (3, 2)
    assert "other" in caplog.text
    for row in rows:
        row["outputs"] = [{"model_name": "other", "correctness": 1, "output_token_length": 1}]
    with pytest.raises(ValueError, match="has none of the models"):
        routing(history=rows)


def test_texts_of_any_kind_and_length_are_routed() -> None:
    queries = ["word " * 100_000, "2 + 2 是多少?", "🙂"]
    assert len(routing().get_model_idxs(CONFIGS, queries, [100_000, 8, 1])) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((CONFIGS, ["a"], [1, 2]), "1 queries, but 2 input_token_lengths"),
        ((CONFIGS, ["a", " "], [1, 2]), "query 1 is empty"),
        ((CONFIGS, "a", [1]), "list of texts"),
        ((CONFIGS, ["a"], [-1]), "input token length"),
        ((CONFIGS, ["a"], [float("nan")]), "input token length"),
        (([], ["a"], [1]), "at least one model"),
        (([[]], ["a"], [1]), "at least one model"),
        (([CONFIGS], ["a", "b"], [1, 1]), "2 queries, but 1 lists"),
        ((["nobody"], ["a"], [1]), "no model is called 'nobody'"),
        (([{"name": "qwen2.5-7b", "cost_per_input_token": 1.0}], ["a"], [1]), "two prices"),
        (([{}], ["a"], [1]), "needs a name"),
    ],
)
def test_bad_input_is_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        routing().get_model_idxs(*arguments)


@pytest.mark.parametrize(
    ("configs", "options", "message"),
    [
        ([], {}, "at least one model"),
        ([CONFIGS[0], CONFIGS[0]], {}, "two models are called"),
        ([{"name": "a", "backend": "huggingface"}], {}, "has no price"),
        ([{"name": "a", "cost_per_input_token": 1.0}], {}, "only one of its two prices"),
        ([CONFIGS[0] | {"cost_per_input_token": -1.0}], {}, "0 or more"),
        ([CONFIGS[0] | {"prior_quality": 2}], {}, "prior_quality"),
        (CONFIGS, {"performance_requirement": 1.1}, "performance_requirement"),
        (CONFIGS, {"n_similar": 0}, "n_similar"),
        (CONFIGS, {"history": [{"query": "a", "outputs": [{}]}]}, "row 1"),
    ],
)
def test_a_bad_configuration_is_refused(
    configs: list[dict[str, Any]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SmartRouting(configs, **options)


def test_prices_come_from_litellm_where_the_config_has_none() -> None:
    price = price_of({"name": "gpt-4o-mini", "backend": "openai"})
    assert 0 < price.input < price.output < 1e-5


def test_a_listed_price_of_zero_is_no_price() -> None:
    with pytest.raises(ValueError, match="has no price"):
        price_of({"name": "llama2", "backend": "ollama"})
    free = {"name": "llama2", "cost_per_input_token": 0, "cost_per_output_token": 0}
    assert price_of(free).output == 0
