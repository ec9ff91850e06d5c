"""Promise: replica-seconds, used and a clairvoyant scaler's, of runs worked out by hand."""

from pathlib import Path
from typing import Any

import pytest
from load_runs import outline, request, sample, write_run

from ops.load.report import report
from ops.load.report.clairvoyant import clairvoyant
from ops.load.report.reading import Capacity, read
from ops.load.report.replica_seconds import replica_seconds
from ops.load.report.series import series
from ops.load.report.services import service_times

Lines = list[dict[str, Any]]


def told(folder: Path) -> dict[str, dict[str, Any]]:
    run = read(folder)
    return replica_seconds(run, clairvoyant(run))


def spent(
    folder: Path,
    requests: Lines,
    samples: Lines | None = None,
    ended: float = 100.0,
    **capacity: Any,
) -> dict[str, Any]:
    scaled = {"small": {"places": 1, "start_s": 5, "min_replicas": 0, **capacity}}
    run = outline(seconds=100.0, ended=ended, scaled=scaled)
    if samples is None:
        samples = [sample(0.5, small=(1, 1))]
    return told(write_run(folder, run, requests, samples))["small"]


def least(folder: Path, requests: Lines, **capacity: Any) -> Any:
    return spent(folder, requests, **capacity)["clairvoyant_replica_s"]


# --- the clairvoyant; each request takes 2 s ---


def test_a_replica_is_started_just_in_time_and_ends_with_its_request(tmp_path: Path) -> None:
    assert least(tmp_path, [request(20)]) == 5 + 2


def test_it_is_kept_if_needed_again_within_the_time_to_start(tmp_path: Path) -> None:
    assert least(tmp_path, [request(20), request(27)]) == 5 + 2 + 5 + 2  # idle for 5 s
    assert least(tmp_path, [request(20), request(25)]) == 5 + 2 + 3 + 2  # for 3 s


def test_else_it_is_started_anew(tmp_path: Path) -> None:
    assert least(tmp_path, [request(20), request(60)]) == 2 * (5 + 2)


def test_two_at_a_time_need_two_replicas_of_one_place(tmp_path: Path) -> None:
    assert least(tmp_path, [request(20), request(21)]) == (5 + 2) + (5 + 2)


def test_or_one_of_two_places(tmp_path: Path) -> None:
    assert least(tmp_path, [request(20), request(21)], places=2) == 5 + 3


def test_a_place_given_back_is_free_at_once(tmp_path: Path) -> None:
    assert least(tmp_path, [request(20), request(22)]) == 5 + 4


def test_there_are_never_fewer_than_the_least_number(tmp_path: Path) -> None:
    requests = [request(20), request(20.5), request(21)]
    assert least(tmp_path, requests, min_replicas=2) == 2 * 100 + (5 + 1)  # from 21 to 22


def test_nothing_is_started_before_the_run(tmp_path: Path) -> None:
    assert least(tmp_path, [request(1)]) == 1 + 2


def test_nothing_runs_after_the_run(tmp_path: Path) -> None:
    assert least(tmp_path, [request(99)], ended=100.0) == 5 + 1


@pytest.mark.parametrize("unknown", ["places", "start_s"])
def test_without_the_capacity_nothing_is_known(tmp_path: Path, unknown: str) -> None:
    assert least(tmp_path, [request(20)], **{unknown: None}) is None


def test_without_an_answer_nothing_is_known(tmp_path: Path) -> None:
    assert least(tmp_path, []) is None
    assert least(tmp_path, [request(20, error="timeout")]) is None


def test_other_models_requests_are_not_counted(tmp_path: Path) -> None:
    assert least(tmp_path, [request(20), request(20, model="large")]) == 5 + 2


def test_a_model_is_found_by_its_deployments_name(tmp_path: Path) -> None:
    run = outline(scaled={"org_small": {"places": 1, "start_s": 0, "min_replicas": 0}})
    folder = write_run(
        tmp_path, run, [request(5, model="org/small")], [sample(1, org_small=(1, 1))]
    )
    assert told(folder)["org_small"]["clairvoyant_replica_s"] == 2


def test_the_router_has_all_requests(tmp_path: Path) -> None:
    run = outline(scaled={"Router": {"places": 1, "start_s": 0, "min_replicas": 0}})
    requests = [request(2), request(6, model="large")]
    folder = write_run(tmp_path, run, requests, [sample(1, Router=(1, 1))])
    assert told(folder)["Router"]["clairvoyant_replica_s"] == 4


def test_its_replicas_are_shown_over_time(tmp_path: Path) -> None:
    scaled = {"small": {"places": 1, "start_s": 2, "min_replicas": 1}}
    requests = [request(4), request(4.2)]  # each needs a replica for 2 s
    folder = write_run(tmp_path, outline(scaled=scaled), requests, [sample(0.5, small=(1, 1))])
    run = read(folder)
    shown = series(run, clairvoyant(run))["deployments"]["small"]["clairvoyant"]
    assert shown == [1, 1, 2, 2, 2, 2, 1, 1, 1, 1]


# --- service times ---


def times(folder: Path, requests: Lines, **capacity: float) -> list[float]:
    run = read(write_run(folder, outline(), requests, []))
    return [round(took, 6) for _, took in service_times(run.requests, Capacity(**capacity))]


def test_waiting_is_no_service(tmp_path: Path) -> None:
    quick = [request(0, first=0.5, ended=2)] * 20
    waited = request(0, first=8, ended=9.5)
    assert times(tmp_path, [*quick, waited])[-1] == 0.5 + 1.5


def test_tokens_that_came_slowly_are_not_taken_for_longer_than_the_fastest(tmp_path: Path) -> None:
    quick = [request(0, first=0.5, ended=2)] * 3  # 0.75 s a token
    slow = [request(0, first=0.5, ended=9)] * 17
    assert times(tmp_path, [*quick, *slow])[-1] == 0.5 + 1.5


def test_the_profiles_speeds_are_taken_where_it_says_them(tmp_path: Path) -> None:
    starved = [request(0, first=5, ended=9)] * 20  # prompts of 100 tokens, answers of 3
    assert times(tmp_path, starved, tokens_per_second=10) == [5 + 0.2] * 20
    speeds = {"tokens_per_second": 10, "prefill_tokens_per_second": 400}
    assert times(tmp_path, starved, **speeds) == [0.25 + 0.2] * 20
    unknown = request(0, first=5, ended=9, prompt_tokens=None, completion_tokens=None)
    assert times(tmp_path, [unknown], **speeds) == [9]


def test_a_starved_run_does_not_raise_its_own_yardstick(tmp_path: Path) -> None:
    requests = [request(20 + at, first=22 + at, ended=40 + at) for at in range(10)]
    speeds = {"tokens_per_second": 2, "prefill_tokens_per_second": 200}
    assert least(tmp_path, requests, start_s=0, **speeds) == 10 * 1.5
    found = report(read(tmp_path))
    assert found["deployments"]["small"]["slowness"] == 18
    assert any(note.startswith("Tokens of small took 18 times as long") for note in found["notes"])


def test_each_model_of_the_router_has_its_own_speed(tmp_path: Path) -> None:
    requests = [request(0)] * 20 + [request(0, model="large", first=4, ended=12)] * 20
    assert times(tmp_path, requests) == [2] * 20 + [12] * 20


def test_a_long_prompt_is_not_taken_for_waiting(tmp_path: Path) -> None:
    quick = [request(0, first=0.5, ended=2)] * 20
    long = [request(0, first=4, ended=5, prompt_tokens=8192)] * 20
    assert times(tmp_path, [*quick, *long])[-1] == 4 + 1  # 0.5 s a token


def test_a_whole_answer_is_taken_as_long_as_a_stream(tmp_path: Path) -> None:
    streams = [request(0, first=0.5, ended=2.5, completion_tokens=5)] * 20  # 0.5 s a token
    whole = request(0, stream=False, first=None, ended=9, completion_tokens=3)
    assert times(tmp_path, [*streams, whole])[-1] == 0.5 + 2 * 0.5
    quick = request(0, stream=False, first=None, ended=1, completion_tokens=3)
    assert times(tmp_path, [*streams, quick])[-1] == 1


def test_without_streams_a_whole_answer_is_taken_as_it_was(tmp_path: Path) -> None:
    assert times(tmp_path, [request(0, stream=False, first=None, ended=9)]) == [9]


def test_a_failed_request_is_taken_as_long_as_the_median(tmp_path: Path) -> None:
    requests = [request(0, first=0, ended=ended, completion_tokens=None) for ended in (1, 2, 9)]
    assert times(tmp_path, [*requests, request(0, error="timeout")])[-1] == 2


# --- what was used ---


def used(folder: Path, samples: Lines) -> Any:
    return spent(folder, [request(20)], samples)


def test_a_sample_counts_until_the_next_one(tmp_path: Path) -> None:
    samples = [sample(1, small=(1, 1)), sample(40, small=(3, 3)), sample(60, small=(0, 0))]
    found = used(tmp_path, samples)
    assert found["used_replica_s"] == 40 * 1 + 20 * 3 + 40 * 0
    assert found["ratio"] == pytest.approx(100 / 7, rel=1e-5)


def test_replicas_that_start_and_stop_are_used(tmp_path: Path) -> None:
    line = sample(1, small=(2, 1))
    line["deployments"]["small"] |= {"starting": 1, "stopping": 2}
    assert used(tmp_path, [line])["used_replica_s"] == 4 * 100


def test_a_gap_is_bridged(tmp_path: Path) -> None:
    samples = [sample(1, small=(2, 2)), {"at": 50, "error": "HTTP 503"}, sample(90, small=(1, 1))]
    assert used(tmp_path, samples)["used_replica_s"] == 90 * 2 + 10 * 1
