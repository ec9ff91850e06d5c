"""Promise: a run folder is read whatever became of the run, and what is wrong in it is named."""

import json
from pathlib import Path

import pytest
from load_runs import outline, request, sample, write_run

from ops.load.report.reading import MalformedRun, read


def test_everything_that_is_read_is_where_it_belongs(tmp_path: Path) -> None:
    run = read(write_run(tmp_path, outline(), [request(1)], [sample(0.5, nodes=2, small=(3, 2))]))
    assert run.outline.seconds == 10
    assert run.requests[0].ttft_s == 1
    assert run.requests[0].tpot_s == 0.5  # two more tokens in a second
    assert run.requests[0].e2e_s == 2
    assert run.samples[0].nodes == 2
    assert run.samples[0].deployments["small"].wanted == 3
    assert run.deployments == ["small"]


def test_the_tools_lateness_counts_to_the_first_token_and_to_the_end(tmp_path: Path) -> None:
    late = request(1, sent=1.25, first=2.25, ended=3.25)
    (found,) = read(write_run(tmp_path, outline(), [late], [])).requests
    assert (found.ttft_s, found.e2e_s) == (1.25, 2.25)


def test_a_whole_answer_and_a_single_token_have_no_time_per_token(tmp_path: Path) -> None:
    lines = [request(1, stream=False), request(1, completion_tokens=1)]
    requests = read(write_run(tmp_path, outline(), lines, [])).requests
    assert [found.tpot_s for found in requests] == [None, None]


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(MalformedRun, match=r"no folder of a load test: run\.json can't be read"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"at": "soon"}, "at: Input should be a valid number"),
        ({"at": float("nan")}, "at: Input should be a finite number"),
        ({"completion_tokens": -1}, "completion_tokens: Input should be greater than"),
    ],
)
def test_a_wrong_line_is_named_with_its_file_number_and_key(
    tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    folder = write_run(tmp_path, outline(), [request(1), request(2) | change, request(3)], [])
    with pytest.raises(MalformedRun) as refused:
        read(folder)
    assert str(refused.value).startswith(f"{folder}/requests.jsonl, line 2: {problem}")


@pytest.mark.parametrize("began", [float("nan"), float("inf"), -1.0, 1e300])
def test_a_beginning_that_is_no_time_is_refused(tmp_path: Path, began: float) -> None:
    folder = write_run(tmp_path, outline(began=began), [], [])
    with pytest.raises(MalformedRun, match=r"run\.json: began: Input should be"):
        read(folder)


def test_a_wrong_key_of_run_json_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, outline(slo={"share": 95}), [], [])
    with pytest.raises(MalformedRun, match=r"run\.json: slo\.share: Input should be less than"):
        read(folder)


def test_a_last_line_that_breaks_off_is_left_out_and_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path, outline(interrupted=True), [request(1)], [sample(0.5)])
    with (folder / "requests.jsonl").open("a") as file:
        file.write('{"at": 2, "sent"')
    run = read(folder)
    assert len(run.requests) == 1
    assert run.cut == ("requests.jsonl",)


def test_a_line_in_the_middle_that_breaks_off_is_wrong(tmp_path: Path) -> None:
    folder = write_run(tmp_path, outline(), [], [])
    (folder / "samples.jsonl").write_text('{"at": 2\n' + json.dumps(sample(1)) + "\n")
    with pytest.raises(MalformedRun, match=r"samples\.jsonl, line 1"):
        read(folder)


CUT = {"error": "interrupted", "model": None, "ended": 5, "completion_tokens": None}


@pytest.mark.parametrize(
    ("change", "bad"),
    [
        ({"first": None}, True),  # 3 s without a first token
        ({"first": 4.5}, True),  # which came late
        ({"first": 3}, False),
        ({"first": None, "at": 4}, False),
        ({"first": None, "stream": False}, False),  # has no first token
        ({"first": None, "stream": False, "at": 0.5}, True),  # 4.5 s without an end
    ],
)
def test_what_was_cut_off_is_bad_if_a_limit_had_passed_and_else_in_no_figure(
    tmp_path: Path, change: dict[str, object], bad: bool
) -> None:
    slo = {"ttft_s": 2, "e2e_s": 4}
    outlined = outline(interrupted=True, sent_until=4.5, ended=5.0, slo=slo)
    run = read(write_run(tmp_path, outlined, [request(1), request(2) | CUT | change], []))
    assert (len(run.requests), run.unanswered) == ((2, 0) if bad else (1, 1))


def test_a_run_without_limits_judges_nothing_that_was_cut_off(tmp_path: Path) -> None:
    run = read(write_run(tmp_path, outline(interrupted=True), [request(1) | CUT], []))
    assert (len(run.requests), run.unanswered) == (0, 1)


def test_a_tool_that_was_killed_leaves_a_run_until_its_last_line(tmp_path: Path) -> None:
    run = outline(interrupted=True, sent_until=None, ended=0.0)
    folder = write_run(tmp_path, run, [request(1, ended=6)], [sample(0.5), sample(4.5)])
    assert (read(folder).length_s, read(folder).outline.ended) == (4.5, 6)


def test_files_that_are_missing_are_empty(tmp_path: Path) -> None:
    folder = write_run(tmp_path, outline(), [], [])
    (folder / "requests.jsonl").unlink()
    (folder / "samples.jsonl").unlink()
    run = read(folder)
    assert (run.requests, run.samples) == ([], [])
