"""Promise: a profile has one schedule, with the rates, lengths and shares that it asks for."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.load.profile import parse_profile
from ops.load.schedule import Planned, Schedule, plan
from serve.config import ConfigError

STEADY = {"kind": "steady", "seconds": 200, "rate": 20}


def schedule(*stages: dict[str, Any], **more: Any) -> Schedule:
    return plan(parse_profile({"stages": list(stages), **more}))


def between(planned: Schedule, start: float, end: float) -> list[Planned]:
    return [request for request in planned.requests if start <= request.at < end]


def assert_about(count: int, expected: float) -> None:
    """Within four standard deviations of a Poisson distribution."""
    assert abs(count - expected) <= 4 * expected**0.5, (count, expected)


def test_a_steady_stage_has_its_rate_all_the_time() -> None:
    planned = schedule(STEADY)
    for start in range(0, 200, 50):
        assert_about(len(between(planned, start, start + 50)), 20 * 50)


def test_a_ramp_goes_from_one_rate_to_another() -> None:
    planned = schedule({"kind": "ramp", "seconds": 100, "from_rate": 0, "to_rate": 40})
    assert_about(len(between(planned, 0, 50)), 10 * 50)
    assert_about(len(between(planned, 50, 100)), 30 * 50)


def test_a_spike_multiplies_the_rate_for_a_while() -> None:
    stage = {"kind": "spike", "seconds": 120, "rate": 4, "times": 10, "after_s": 50, "for_s": 20}
    planned = schedule(stage)
    assert_about(len(between(planned, 0, 50)), 4 * 50)
    assert_about(len(between(planned, 50, 70)), 40 * 20)
    assert_about(len(between(planned, 70, 120)), 4 * 50)


def test_a_day_is_busiest_at_noon() -> None:
    planned = schedule({"kind": "diurnal", "seconds": 240, "low_rate": 2, "high_rate": 22})
    night = len(between(planned, 0, 24)) + len(between(planned, 216, 240))
    noon = len(between(planned, 96, 144))
    # The mean of 1 - cos over a tenth of a turn on both sides of 0, and of the half turn.
    swing = 10 * np.sin(np.pi / 5) / (np.pi / 5)
    assert_about(night, (12 - swing) * 48)
    assert_about(noon, (12 + swing) * 48)


def test_nothing_is_sent_while_idle_and_stages_follow_one_another() -> None:
    planned = schedule({**STEADY, "name": "busy"}, {"kind": "idle", "seconds": 30}, STEADY)
    assert [(span.name, span.start_s, span.end_s) for span in planned.stages] == [
        ("busy", 0, 200),
        ("idle 2", 200, 230),
        ("steady 3", 230, 430),
    ]
    assert planned.seconds == 430
    assert between(planned, 200, 230) == []
    assert {request.stage for request in between(planned, 0, 200)} == {"busy"}
    assert {request.stage for request in between(planned, 230, 430)} == {"steady 3"}


def test_requests_are_in_order_and_numbered() -> None:
    planned = schedule(STEADY, {"kind": "ramp", "seconds": 50, "from_rate": 9, "to_rate": 1})
    assert all(one.at <= other.at for one, other in pairwise(planned.requests))
    assert [request.number for request in planned.requests] == list(range(len(planned.requests)))


def test_poisson_gaps_vary_as_much_as_they_are_long() -> None:
    gaps = np.diff([request.at for request in schedule(STEADY).requests])
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1, abs=0.05)


def test_constant_arrivals_are_even() -> None:
    planned = schedule(STEADY, arrivals="constant")
    assert len(planned.requests) == 200 * 20
    gaps = np.diff([request.at for request in planned.requests])
    assert gaps == pytest.approx(np.full(len(gaps), 1 / 20), abs=1e-6)


def test_the_seed_decides() -> None:
    assert schedule(STEADY) == schedule(STEADY)
    assert schedule(STEADY) != schedule(STEADY, seed=1)


def test_a_stage_is_the_same_whatever_is_before_it() -> None:
    other = {"kind": "steady", "seconds": 200, "rate": 1}
    last = {"kind": "ramp", "seconds": 50, "from_rate": 9, "to_rate": 1}
    one, two = between(schedule(STEADY, last), 200, 250), between(schedule(other, last), 200, 250)
    assert [request.at for request in one] == [request.at for request in two]
    assert [request.prompt_tokens for request in one] == [request.prompt_tokens for request in two]


def test_lengths_have_their_distribution() -> None:
    planned = schedule(
        STEADY,
        prompts={"distribution": "lognormal", "median": 200, "p95": 1000, "most": 3000},
        answers={"distribution": "uniform", "least": 10, "most": 30},
    )
    prompts = [request.prompt_tokens for request in planned.requests]
    answers = [request.answer_tokens for request in planned.requests]
    assert np.median(prompts) == pytest.approx(200, rel=0.1)
    assert np.quantile(prompts, 0.95) == pytest.approx(1000, rel=0.15)
    assert max(prompts) == 3000
    assert (min(answers), max(answers)) == (10, 30)
    assert np.mean(answers) == pytest.approx(20, abs=0.5)
    constant = schedule(STEADY, prompts={"distribution": "constant", "tokens": 7})
    assert {request.prompt_tokens for request in constant.requests} == {7}


def test_kinds_streams_and_models_have_their_shares() -> None:
    mix = {"stream": 0.7, "tools": 0.2, "json_schema": 0.1, "models": {"auto": 3, "small": 1}}
    requests = schedule(STEADY, mix=mix).requests
    number = len(requests)
    kinds = Counter(request.kind for request in requests)
    models = Counter(request.model for request in requests)
    streams = sum(request.stream for request in requests)
    assert kinds["tools"] / number == pytest.approx(0.2, abs=0.03)
    assert kinds["json"] / number == pytest.approx(0.1, abs=0.03)
    assert models["auto"] / number == pytest.approx(0.75, abs=0.03)
    assert streams / number == pytest.approx(0.7, abs=0.03)


@pytest.mark.parametrize(
    ("bound", "said"), [("most_requests", "more than 100 requests"), ("most_seconds", "than 100 s")]
)
def test_too_much_is_refused(bound: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        schedule(STEADY, **{bound: 100})


@pytest.fixture
def trace(tmp_path: Path) -> str:
    file = tmp_path / "trace.jsonl"
    lines = [
        f'{{"timestamp": {at}, "input_length": {at}, "output_length": 9, "hash_ids": [{at}]}}'
        for at in (1000, 3000, 5000, 9000)
    ]
    file.write_text("\n".join(lines))
    return str(file)


def test_a_trace_is_replayed_with_its_times_and_lengths(trace: str) -> None:
    idle = {"kind": "idle", "seconds": 10}
    planned = schedule(idle, {"kind": "trace", "file": trace, "speed": 2})
    assert [request.at for request in planned.requests] == [10, 11, 12, 14]
    assert [request.prompt_tokens for request in planned.requests] == [1000, 3000, 5000, 9000]
    assert {request.answer_tokens for request in planned.requests} == {9}
    assert [request.blocks for request in planned.requests] == [(1000,), (3000,), (5000,), (9000,)]
    assert planned.seconds == 14


def test_a_part_of_a_trace_is_replayed(trace: str) -> None:
    planned = schedule({"kind": "trace", "file": trace, "window": [1, 7]})
    assert [request.at for request in planned.requests] == [1, 3]
    assert planned.seconds == 6
    with pytest.raises(ConfigError, match="no request in window"):
        schedule({"kind": "trace", "file": trace, "window": [20, 30]})
