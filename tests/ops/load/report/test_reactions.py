"""Promise: reaction times, of runs that are worked out by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from load_runs import dropped, outline, request, sample, write_run

from ops.load.report.reactions import reactions
from ops.load.report.reading import read

Wanted = Callable[[int], int]
Lines = list[dict[str, Any]]


def stage(name: str, kind: str, start: float, end: float) -> dict[str, Any]:
    return {"name": name, "kind": kind, "start_s": start, "end_s": end}


SPIKE = [
    stage("before", "steady", 0, 20),
    stage("spike", "spike", 20, 60),
    stage("after", "steady", 60, 100),
]


def arrivals(stages: Lines, bad: range = range(0)) -> Lines:
    """One request a second, and ten in the spike; those due in the seconds of `bad` are late."""
    found = []
    for second in range(100):
        (name,) = (one["name"] for one in stages if one["start_s"] <= second < one["end_s"])
        for part in range(10 if 20 <= second < 60 else 1):
            at = second + part / 10
            found.append(request(at, stage=name, first=at + (5 if second in bad else 0.5)))
    return found


def found(
    folder: Path,
    wanted: Wanted = lambda second: 1,
    running: Wanted = lambda second: 1,
    bad: range = range(0),
    **run: Any,
) -> Lines:
    outlined = outline(
        **{
            "seconds": 100.0,
            "ended": 100.0,
            "stages": SPIKE,
            "slo": {"ttft_s": 1, "share": 0.9},
            **run,
        }
    )
    samples = [sample(s + 0.5, small=(wanted(s), running(s))) for s in range(100)]
    requests = arrivals(outlined["stages"], bad)
    return reactions(read(write_run(folder, outlined, requests, samples)))


def test_seconds_from_the_rise_to_replicas_and_back(tmp_path: Path) -> None:
    (spike,) = found(
        tmp_path,
        wanted=lambda s: 5 if 23 <= s < 70 else 1,
        running=lambda s: 1 if s < 28 else 5 if s < 75 else 3 if s < 77 else 1,
    )
    assert (spike["stage"], spike["kind"]) == ("spike", "spike")
    assert (spike["at_s"], spike["end_s"]) == (20, 60)
    assert (spike["from_per_s"], spike["to_per_s"]) == (1, 10)
    assert spike["deployments"]["small"] == {
        "wanted_s": 3.5,
        "running_s": 8.5,
        "down_wanted_s": 10.5,
        "down_running_s": 15.5,
        "back_s": 17.5,
    }


def test_what_did_not_happen_is_none(tmp_path: Path) -> None:
    (spike,) = found(tmp_path)
    assert set(spike["deployments"]["small"].values()) == {None}


def test_the_goal_is_held_throughout(tmp_path: Path) -> None:
    (spike,) = found(tmp_path)
    assert spike["slo_regained_s"] == 0


def test_the_goal_is_held_again_once_no_later_window_fails(tmp_path: Path) -> None:
    (spike,) = found(tmp_path, bad=range(22, 31))
    # One late second in five is too much for 90 %: the window from 30 on is the last that fails.
    assert spike["slo_regained_s"] == 11


def test_the_goal_is_not_held_again(tmp_path: Path) -> None:
    (spike,) = found(tmp_path, bad=range(22, 60))
    assert spike["slo_regained_s"] is None


def test_what_was_dropped_did_not_hold_the_goal(tmp_path: Path) -> None:
    requests = [request(at, stage="before") for at in range(20)]
    requests += [request(20 + at / 10, stage="spike") for at in range(200)]
    requests += [dropped(40 + at / 10, stage="spike") for at in range(200)]
    run = outline(seconds=100.0, ended=100.0, stages=SPIKE)
    (spike,) = (
        found
        for found in reactions(read(write_run(tmp_path, run, requests, [])))
        if found["stage"] == "spike"
    )
    assert spike["to_per_s"] == 10
    assert spike["slo_regained_s"] is None


def test_a_rise_within_a_spikes_stage_is_found_by_the_profile(tmp_path: Path) -> None:
    (spike,) = found(
        tmp_path,
        wanted=lambda s: 2 if s >= 24 else 1,
        stages=[stage("rush", "spike", 0, 100)],
        profile={"stages": [{"kind": "spike", "after_s": 20, "for_s": 40}]},
    )
    assert (spike["stage"], spike["at_s"], spike["end_s"]) == ("rush", 20, 60)
    assert spike["deployments"]["small"]["wanted_s"] == 4.5


def test_a_ramp_is_a_rise_and_what_is_as_high_after_it_is_none(tmp_path: Path) -> None:
    stages = [
        stage("low", "steady", 0, 15),
        stage("ramp", "ramp", 15, 40),
        stage("high", "steady", 40, 60),
        stage("low again", "steady", 60, 100),
    ]
    (ramp,) = found(tmp_path, stages=stages)
    assert (ramp["stage"], ramp["at_s"], ramp["end_s"]) == ("ramp", 15, 60)


def test_the_first_load_is_a_rise_where_it_started_replicas(tmp_path: Path) -> None:
    stages = [stage("all", "steady", 0, 100)]
    assert found(tmp_path, stages=stages) == []
    (cold,) = found(tmp_path, wanted=lambda s: int(s >= 2), stages=stages)
    assert (cold["from_per_s"], cold["deployments"]["small"]["wanted_s"]) == (0, 2.5)


def test_an_interrupted_run_has_the_reactions_until_then(tmp_path: Path) -> None:
    (spike,) = found(
        tmp_path,
        wanted=lambda s: 2 if s >= 24 else 1,
        interrupted=True,
        sent_until=40.0,
        ended=45.0,
    )
    assert spike["end_s"] == 40
    assert spike["deployments"]["small"]["wanted_s"] == 4.5
    assert spike["deployments"]["small"]["down_wanted_s"] is None


@pytest.mark.parametrize("ended", [0.0, 10.0])
def test_a_run_without_requests_has_no_reactions(tmp_path: Path, ended: float) -> None:
    folder = write_run(tmp_path, outline(ended=ended), [], [])
    assert reactions(read(folder)) == []
