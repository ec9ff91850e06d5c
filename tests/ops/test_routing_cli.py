"""Promise: from a store, a shell is told what other choices would have cost and scored; what can't
be told is said in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Learned, Observation
from deployments.store.sql.database import Database
from ops.cli.app import alone

IDENTITIES = {"small": "openai/small", "large": "openai/large"}
CONFIG = """
llms:
  models:
    - {{name: small, backend: openai, cost_per_input_token: 1e-7, cost_per_output_token: 4e-7}}
    - {{name: large, backend: openai, cost_per_input_token: 1e-6, cost_per_output_token: 4e-6}}
    - {{name: new, backend: openai, cost_per_input_token: 1e-5, cost_per_output_token: 4e-5}}
  router: {{strategy: smart, performance_requirement: 0.8}}
  store: {{url: "{url}"}}
"""


def run(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        alone("routing", "ops.routing", ["replay", *map(str, arguments)])
    if ended.value.code:
        raise ended.value


def vector(number: int) -> Floats32:
    numbers = np.random.default_rng(number).normal(size=8).astype(np.float32)
    unit: Floats32 = numbers / np.linalg.norm(numbers)
    return unit


def answered(number: int) -> tuple[Observation, AnswerRecord]:
    """Nine of ten go to the small model, which is right half of the time."""
    model = "large" if number % 10 == 0 else "small"
    price = 4e-6 if model == "large" else 4e-7
    seen = Observation(
        f"query {number}",
        vector(number),
        model,
        "answers",
        quality=1.0 if model == "large" else float(number // 2 % 2),
        output_tokens=100,
        input_tokens=40,
        identity=IDENTITIES[model],
    )
    record = AnswerRecord(
        f"chatcmpl-{number:032x}",
        model,
        0.5,
        "policy",
        cost=100 * price + 40 * price / 4,
        identity=IDENTITIES[model],
        chosen=True,
        propensity=0.1 if model == "large" else 0.9,
    )
    return seen, record


Made = Callable[..., Path]


@pytest.fixture
def config(store_url: str, tmp_path: Path) -> Made:
    """Makes the configuration of a store with these items, or with none."""

    def made(*items: Learned) -> Path:
        database = Database(store_url, "encoder", 8)
        database.write(items)
        database.close()
        file = tmp_path / "my.yaml"
        file.write_text(CONFIG.format(url=store_url))
        return file

    return made


def targets(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    run(*arguments, "--json")
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


@pytest.fixture
def filled(config: Made) -> Path:
    return config(*map(answered, range(400)))


def test_each_target_has_its_quality_cost_and_saving(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = targets(capsys, "--config", filled, "--requirement", 0.6, "--requirement", 0.9)
    assert (told["requests"], told["sampled"], told["scored"]) == (400, 400, 400)
    found = told["targets"]
    assert list(found) == [
        *("as it was", "requirement 0.6", "requirement 0.9", "always small", "always large")
    ]
    assert found["as it was"]["quality"]["mean"] == pytest.approx((180 + 40) / 400)
    assert told["best"] == "large"
    low, high = found["always large"]["cost"]["interval"]
    assert low <= 110 * 4e-6 <= high
    low, high = found["always small"]["quality"]["interval"]
    assert low <= 0.5 <= high
    assert 0.8 < found["always small"]["saving"]["mean"] < 1


def test_the_table_says_what_its_figures_are(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("--config", filled)
    table = capsys.readouterr().out
    assert "400 of 400 requests, 400 of them scored" in table
    assert "requirement 0.8" in table, "as configured"
    assert "always asking large" in table
    assert "never scored, so nothing can be told of them: new" in table


def test_only_the_given_models_are_chosen(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = targets(capsys, "--config", filled, "--models", "small")["targets"]
    assert found["requirement 0.8"]["cost"] == found["always small"]["cost"]


def test_answers_that_were_no_choice_and_those_of_other_models_are_left_out(
    config: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, _ = answered(1)
    others = [
        (seen, AnswerRecord("fallback", "small", cost=1.0, identity="openai/small", chosen=False)),
        (seen, AnswerRecord("renamed", "small", identity="openai/old", propensity=1.0)),
        AnswerRecord("sampled-out", "small", identity="openai/small", propensity=1.0),
    ]
    file = config(*map(answered, range(20)), *others)
    assert targets(capsys, "--config", file)["requests"] == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "small,huge"], "there is no model 'huge'; there are: small, large, new"),
        (["--models", "new"], "no answer of these models has been scored"),
    ],
)
def test_a_wrong_model_is_named(filled: Path, options: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        run("--config", filled, *options)


def test_a_requirement_is_between_0_and_1(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--config", filled, "--requirement", 1.5)
    assert "less than or equal to 1" in capsys.readouterr().err


def test_an_empty_store_has_nothing_to_replay(config: Made) -> None:
    with pytest.raises(SystemExit, match="has no requests to replay"):
        run("--config", config())


def test_a_store_without_scores_tells_nothing(config: Made) -> None:
    seen, record = answered(1)
    unscored = Observation(seen.query, seen.embedding, "small", "answers", output_tokens=9)
    with pytest.raises(SystemExit, match="no answer has been scored"):
        run("--config", config((unscored, record)))


def test_without_a_store_it_says_so(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(CONFIG.format(url=f"sqlite:///{tmp_path}/none.db"))
    with pytest.raises(SystemExit, match="there is no store"):
        run("--config", file)
