"""Promise: a wrong profile is refused with the path of each wrong key; the shipped ones work."""

from pathlib import Path
from typing import Any

import pytest

from ops.load.profile import PROFILES, Trace, load_profile, parse_profile
from ops.load.schedule import plan
from serve.config import ConfigError

STEADY = {"kind": "steady", "seconds": 10, "rate": 5}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "stages: missing"),
        ({"stages": []}, "stages: must not be empty"),
        ({"stages": [{**STEADY, "speed": 2}]}, "stages.0.steady.speed: unknown key"),
        ({"stages": [STEADY, {"kind": "steady", "seconds": 1}]}, "stages.1.steady.rate: missing"),
        ({"stages": [{"kind": "burst"}]}, "stages.0: "),
        ({"stages": [STEADY], "mix": {"stream": 2}}, "mix.stream: must be less than or equal to 1"),
        ({"stages": [STEADY], "mix": {"tools": 0.6, "json_schema": 0.6}}, "mix: tools + json"),
        ({"stages": [STEADY], "sloo": {}}, "sloo: unknown key"),
        ({"stages": [STEADY, {**STEADY, "name": "steady 1"}]}, "2 are named 'steady 1'"),
        (
            {"stages": [STEADY], "capacity": {"a": {"tokens_per_second": 0}}},
            "capacity.a.tokens_per_second: must be greater than 0",
        ),
        (
            {"stages": [STEADY], "prompts": {"distribution": "lognormal", "median": 9, "p95": 1}},
            "prompts.lognormal: p95 must not be less than median",
        ),
        (
            {"stages": [{"kind": "spike", "seconds": 9, "rate": 1, "after_s": 5, "for_s": 5}]},
            "stages.0.spike: after_s + for_s",
        ),
        (
            {"stages": [{"kind": "trace", "file": "x", "window": [5, 5]}]},
            "stages.0.trace: window: must be [from, to]",
        ),
    ],
)
def test_a_wrong_key_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_profile(wrong)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("stages: []\nstages: []", "given twice"),
        ("- steady", "must be a mapping"),
        ("stages: [", "line 1"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=said):
        load_profile(file)


def test_a_trace_is_looked_for_beside_the_profile(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text("stages: [{kind: trace, file: ./a.jsonl}]")
    (stage,) = load_profile(file).stages
    assert isinstance(stage, Trace)
    assert stage.file == str(tmp_path / "a.jsonl")


@pytest.mark.parametrize("file", sorted(PROFILES.glob("*.yaml")), ids=lambda file: file.stem)
def test_each_shipped_profile_says_what_it_is_for_and_can_be_run(file: Path) -> None:
    assert file.read_text("utf-8").startswith("# ")
    assert plan(load_profile(file)).requests
