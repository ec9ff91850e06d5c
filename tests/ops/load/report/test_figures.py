"""Promise: each figure of a run made by hand is what it is by hand."""

from pathlib import Path
from typing import Any

import pytest
from load_runs import dropped, outline, request, sample, write_run

from ops.load.report import report
from ops.load.report.phases import phases
from ops.load.report.reading import read

SLO = {"ttft_s": 1.5, "tpot_s": 0.6, "e2e_s": 4.0, "share": 0.5}


def made(folder: Path, requests: list[dict[str, Any]], **run: Any) -> dict[str, Any]:
    return report(read(write_run(folder, outline(**run), requests, [])))


def test_rates_goodput_and_money(tmp_path: Path) -> None:
    requests = [
        request(0, cost=0.002, quality=0.9),
        request(1, cost=0.004, quality=0.7),
        request(2, first=4),  # 2 s to the first token
        request(3, error="timeout", status=None, model=None),
        request(9, first=9.5, ended=10.9),  # 0.7 s a token
    ]
    whole = made(tmp_path, requests, slo=SLO)["whole"]
    assert whole["requests"] == 5
    assert (whole["answered"], whole["good"], whole["failed"]) == (4, 2, 1)
    assert whole["goodput"] == 0.4
    assert (whole["offered_per_s"], whole["served_per_s"]) == (0.5, 0.3)  # one ended after it
    assert whole["usd"] == 0.006
    assert whole["usd_per_1000_requests"] == 3  # of those whose cost is known
    assert whole["quality"] == 0.8


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ({}, True),
        ({"first": 1.5}, True),  # a limit may be reached
        ({"first": 1.6}, False),
        ({"ended": 2.3}, False),  # 0.65 s a token
        ({"ended": 2.3, "stream": False, "first": None}, True),  # which a whole answer hasn't
        ({"ended": 4.1, "stream": False, "first": None}, False),  # end to end
        ({"sent": 1.0, "first": 2.0, "ended": 3.0}, False),  # the tool's lateness counts
        ({"error": "broken_stream"}, False),
    ],
)
def test_a_request_is_good_without_error_and_within_all_limits_that_apply(
    tmp_path: Path, change: dict[str, Any], good: bool
) -> None:
    assert made(tmp_path, [request(0, **change)], slo=SLO)["whole"]["good"] == good


def test_dropped_requests_are_due_and_not_good_and_have_no_times(tmp_path: Path) -> None:
    late = request(0, sent=0.02)
    found = made(tmp_path, [late] * 3 + [dropped(1)])
    for figures in (found["whole"], *found["stages"]):
        assert (figures["requests"], figures["failed"], figures["goodput"]) == (4, 1, 0.75)
        assert figures["offered_per_s"] == 0.4
        assert figures["e2e_s"]["p50"] == 2
    assert found["errors"] == [{"class": "dropped", "status": None, "requests": 1, "share": 0.25}]
    assert found["lateness_s"]["p50"] == 0.02
    assert found["series"]["errors_per_s"]["dropped"][1] == 1
    assert "1 of the requests that were due were not sent" in found["notes"][0]


def test_percentiles_are_interpolated_and_of_answers_alone(tmp_path: Path) -> None:
    requests = [request(0, first=seconds) for seconds in (1, 2, 3, 4, 5)]
    requests.append(request(0, first=100, error="broken_stream"))
    ttft = made(tmp_path, requests)["whole"]["ttft_s"]
    assert ttft == {"p50": 3, "p90": 4.6, "p99": 4.96}


def test_nothing_is_none_and_not_zero(tmp_path: Path) -> None:
    whole = made(tmp_path, [])["whole"]
    assert whole["goodput"] is None
    assert whole["usd"] is None
    assert whole["ttft_s"] == {"p50": None, "p90": None, "p99": None}


def test_requests_belong_to_the_stage_in_which_they_were_due(tmp_path: Path) -> None:
    stages = [
        {"name": "a", "kind": "steady", "start_s": 0, "end_s": 4},
        {"name": "b", "kind": "steady", "start_s": 4, "end_s": 10},
    ]
    requests = [
        request(3.9, stage="a", ended=9),
        request(4, stage="a", ended=9),  # such as the last one of a trace
        request(4, stage="b"),
        request(10, stage="b", error="timeout"),
    ]
    a, b = made(tmp_path, requests, stages=stages)["stages"]
    assert (a["name"], a["requests"], a["goodput"], a["offered_per_s"]) == ("a", 2, 1, 0.5)
    assert (b["name"], b["requests"], b["goodput"]) == ("b", 2, 0.5)


def test_answers_are_served_in_the_stage_in_which_they_end(tmp_path: Path) -> None:
    stages = [
        {"name": "spike", "kind": "steady", "start_s": 0, "end_s": 4},
        {"name": "calm", "kind": "steady", "start_s": 4, "end_s": 10},
    ]
    requests = [request(1, stage="spike", ended=3)]
    requests += [request(1, stage="spike", ended=5)] * 6 + [request(8, stage="calm", ended=11)]
    spike, calm = made(tmp_path, requests, stages=stages)["stages"]
    assert (spike["answered"], spike["served_per_s"]) == (7, 0.25)
    assert (calm["answered"], calm["served_per_s"]) == (1, 1)


def test_a_spike_is_a_phase_between_what_is_around_it(tmp_path: Path) -> None:
    stage = {"kind": "spike", "seconds": 10, "after_s": 2, "for_s": 5, "rate": 1, "times": 10}
    run = outline(
        profile={"stages": [stage]},
        stages=[{"name": "rush", "kind": "spike", "start_s": 0, "end_s": 10}],
    )
    requests = [request(at, stage="rush") for at in (1, 2, 6.9, 7, 10)]
    found = phases(read(write_run(tmp_path, run, requests, [])))
    assert [(p.name, p.kind, p.start_s, p.end_s, len(p.requests)) for p in found] == [
        ("rush: before", "steady", 0, 2, 1),
        ("rush", "spike", 2, 7, 2),
        ("rush: after", "steady", 7, 10, 2),
    ]


def test_an_interrupted_run_has_the_rates_of_the_time_in_which_it_sent(tmp_path: Path) -> None:
    requests = [request(0), request(3, ended=6)]
    found = made(tmp_path, requests, interrupted=True, sent_until=4.0, ended=7.0)
    for figures in (found["whole"], *found["stages"]):
        assert (figures["offered_per_s"], figures["served_per_s"]) == (0.5, 0.25)
    assert found["series"]["at_s"] == list(range(7))
    assert found["notes"][0].startswith("The run was interrupted after 4 s of 10 s.")


def test_models_have_their_share_of_answers(tmp_path: Path) -> None:
    requests = [
        *(request(at) for at in range(3)),
        request(3, model="large"),
        request(4, model=None, error="timeout"),
    ]
    models = made(tmp_path, requests)["models"]
    assert [(m["model"], m["share"], m["goodput"]) for m in models] == [
        ("small", 0.75, 1),
        ("large", 0.25, 1),
        (None, 0, 0),
    ]


def test_errors_are_counted_by_class_and_status(tmp_path: Path) -> None:
    requests = [request(0), request(1, error="timeout", status=None)]
    requests += [request(2, error="overloaded", status=503)] * 2
    assert made(tmp_path, requests)["errors"] == [
        {"class": "overloaded", "status": 503, "requests": 2, "share": 0.5},
        {"class": "timeout", "status": None, "requests": 1, "share": 0.25},
    ]


def test_a_late_tool_is_told(tmp_path: Path) -> None:
    found = made(tmp_path, [request(0), request(1, sent=2)])
    assert found["lateness_s"] == {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1}
    assert "The tool itself was late" in found["notes"][0]


# --- over time ---


def test_each_second_has_what_was_due_or_ended_in_it(tmp_path: Path) -> None:
    requests = [
        request(0.1, cost=0.5),
        request(0.2, first=3, ended=4, model="large"),
        request(2, error="timeout", ended=3.5),
    ]
    series = made(tmp_path, requests, slo=SLO)["series"]
    assert (series["step_s"], series["at_s"]) == (1, list(range(10)))
    assert series["offered_per_s"][:5] == [2, 0, 1, 0, 0]
    assert series["good_per_s"][:5] == [1, 0, 0, 0, 0]
    assert series["served_per_s"][:5] == [0, 0, 1, 0, 1]
    assert series["errors_per_s"] == {"timeout": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]}
    assert series["answers_per_s"]["large"][4] == 1
    assert series["ttft_p50_s"][:2] == [1.9, None]
    assert series["usd"][:4] == [0, 0, 0.5, 0.5]


def test_long_runs_have_longer_steps(tmp_path: Path) -> None:
    series = made(tmp_path, [request(0)], seconds=7200.0, ended=7200.0)["series"]
    assert (series["step_s"], len(series["at_s"])) == (4, 1800)
    assert series["offered_per_s"][0] == 0.25


def test_rare_names_are_shown_together(tmp_path: Path) -> None:
    names = [f"model-{index}" for index in range(9) for _ in range(9 - index)]
    answers = made(tmp_path, [request(0, model=name) for name in names])["series"]["answers_per_s"]
    assert list(answers) == [*(f"model-{index}" for index in range(6)), "others"]
    assert sum(answers["others"]) == 3 + 2 + 1


def test_what_was_not_sampled_is_missing_and_not_zero(tmp_path: Path) -> None:
    samples = [sample(at + 0.5, small=(1, 1)) for at in range(10) if at not in (4, 5)]
    samples += [{"at": at + 0.5, "error": "HTTP 503"} for at in (4, 5)]
    found = report(read(write_run(tmp_path, outline(), [], samples)))
    assert found["series"]["deployments"]["small"]["running"] == [1] * 4 + [None] * 2 + [1] * 4
    assert found["series"]["nodes"][4] is None
    assert found["series"]["missing"] == [[4, 6]]
    assert (
        "2 of 10 samples of /metrics couldn't be read (most often: HTTP 503)" in found["notes"][0]
    )


def test_a_sample_that_is_a_little_late_leaves_no_gap(tmp_path: Path) -> None:
    samples = [sample(at) for at in (0.1, 1.1, 3.05, 4, 5, 6, 7, 8, 9)]
    assert report(read(write_run(tmp_path, outline(), [], samples)))["series"]["missing"] == []


def test_without_samples_all_is_missing(tmp_path: Path) -> None:
    found = made(tmp_path, [request(0)])
    assert found["series"]["missing"] == [[0, 10]]
    assert found["deployments"] == {}
    assert "Nothing is known of replicas" in found["notes"][0]
