"""Promise: `python -m ops.load` drives a server open loop, and its folder has what was seen."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from load_target import COST, TOKENS, Target, serving

from ops.cli.app import alone
from ops.load.folder import Run
from ops.load.profile import parse_profile
from ops.load.running import drive
from ops.load.schedule import plan
from ops.ports import free_port

KEY = "sk-canary-0123456789abcdef"
STEADY = {"kind": "steady", "seconds": 2, "rate": 20}
COLUMNS = {
    *("at", "sent", "first", "ended", "stage", "kind", "stream", "asked", "model", "status"),
    *("error", "prompt_tokens", "completion_tokens", "cost", "quality", "attempts", "strategy"),
}
PATIENCE_S = 120


@pytest.fixture
def target() -> Iterator[Target]:
    with serving() as running:
        yield running


class LoadTest:
    """A run of the command in a folder of its own."""

    def __init__(self, folder: Path, url: str, profile: dict[str, Any], *options: str) -> None:
        file = folder / "profile.yaml"
        file.write_text(yaml.safe_dump(profile))
        self.folder = folder / "out"
        given = ("--url", url, "--profile", str(file), "--out", str(self.folder), *options)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ops.load", *given],
            env={**os.environ, "LLM_CORES_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # The tests themselves may run under `nohup`, which it would inherit.
            preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
        )

    def end(self) -> str:
        """Waits for its end; returns what it printed."""
        try:
            return self.process.communicate(timeout=PATIENCE_S)[0]
        finally:
            self.process.kill()

    def wait_for_requests(self, target: Target) -> None:
        """Waits until the target has been asked."""
        deadline = time.monotonic() + PATIENCE_S
        while not target.bodies and self.process.poll() is None:
            assert time.monotonic() < deadline, "no request was sent"
            time.sleep(0.05)

    @property
    def run(self) -> dict[str, Any]:
        """What `run.json` says."""
        return dict(json.loads((self.folder / "run.json").read_text("utf-8")))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file."""
        return [json.loads(line) for line in (self.folder / name).read_text("utf-8").splitlines()]


@dataclass
class Recorded:
    """A run that has ended, what it printed, and what it drove."""

    test: LoadTest
    printed: str
    target: Target


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """A run of everything that there is."""
    mix = {"stream": 0.5, "tools": 0.3, "json_schema": 0.3, "models": {"demo": 1}}
    capacity = {"demo": {"places": 4, "start_s": 2, "tokens_per_second": 20}}
    profile = {"stages": [STEADY], "mix": mix, "capacity": capacity}
    with serving() as target:
        test = LoadTest(tmp_path_factory.mktemp("run"), target.url, profile)
        return Recorded(test, test.end(), target)


def test_each_request_has_a_record(recorded: Recorded) -> None:
    rows = recorded.test.lines("requests.jsonl")
    assert len(rows) == len(recorded.target.bodies) > 20
    for row in rows:
        assert set(row) == COLUMNS
        assert row["error"] is None
        assert (row["stage"], row["asked"], row["model"]) == ("steady 1", "demo", "demo")
        assert (row["status"], row["strategy"], row["quality"]) == (200, "smart", 0.97)
        assert (row["cost"], row["completion_tokens"]) == (COST, TOKENS)
        assert row["attempts"] == (2 if row["stream"] else 1)
        assert 0 <= row["at"] <= row["sent"] < row["ended"]
        assert (row["first"] is not None) == row["stream"]
        assert row["first"] is None or row["sent"] < row["first"] < row["ended"]
    assert {row["kind"] for row in rows} == {"text", "tools", "json"}
    assert {row["stream"] for row in rows} == {True, False}


def test_the_run_as_a_whole_is_recorded(recorded: Recorded) -> None:
    run, url = recorded.test.run, recorded.target.url
    assert (run["url"], run["interrupted"], run["sent_until"]) == (url, False, 2)
    assert run["served"]["config"] is None
    # What no other run's prompts have.
    assert all(run["nonce"] in str(body["messages"]) for body in recorded.target.bodies)
    assert run["stages"] == [{"name": "steady 1", "kind": "steady", "start_s": 0.0, "end_s": 2.0}]
    assert run["scaled"]["demo"] == {
        "places": 4,
        "start_s": 2.0,
        "min_replicas": 0,
        "tokens_per_second": 20.0,
        "prefill_tokens_per_second": None,
    }
    assert abs(run["began"] - time.time()) < PATIENCE_S
    assert run["seconds"] == 2 <= run["ended"] < 10
    samples = recorded.test.lines("samples.jsonl")
    assert len(samples) >= 2
    assert all("deployments" in sample for sample in samples)


def test_the_report_is_written_and_its_figures_are_the_last_line(recorded: Recorded) -> None:
    assert recorded.test.process.returncode == 0, recorded.printed
    figures = json.loads(recorded.printed.splitlines()[-1])
    assert figures["requests"] == len(recorded.target.bodies)
    assert Path(figures["report"]).read_text("utf-8").startswith("<!")


def test_the_key_is_sent_and_kept_nowhere(recorded: Recorded) -> None:
    assert recorded.target.keys == {f"Bearer {KEY}"}
    assert KEY not in recorded.printed
    for file in recorded.test.folder.iterdir():
        assert KEY.encode() not in file.read_bytes(), file


def test_each_failure_has_its_class(tmp_path: Path, target: Target) -> None:
    models = dict.fromkeys(("demo", "cut", "failing", "refused", "slow=30"), 1)
    profile = {"stages": [STEADY], "mix": {"models": models}, "timeout_s": 1}
    test = LoadTest(tmp_path, target.url, profile)
    test.end()
    seen = {row["asked"]: (row["error"], row["status"]) for row in test.lines("requests.jsonl")}
    assert seen == {
        "demo": (None, 200),
        "cut": ("broken_stream", 200),
        "failing": ("out_of_memory", 200),
        "refused": ("rate_limited", 429),
        "slow=30": ("timeout", None),
    }


def test_a_server_that_is_not_there_is_a_failed_connection(tmp_path: Path) -> None:
    with serving() as gone:
        url = gone.url
    test = LoadTest(tmp_path, url, {"stages": [{**STEADY, "seconds": 1}]})
    test.end()
    rows = test.lines("requests.jsonl")
    assert {(row["error"], row["status"]) for row in rows} == {("connection", None)}
    assert all("error" in sample for sample in test.lines("samples.jsonl"))


def test_late_answers_delay_no_request(tmp_path: Path, target: Target) -> None:
    profile = {"stages": [STEADY], "mix": {"models": {"slow=5": 1}}}
    test = LoadTest(tmp_path, target.url, profile)
    test.end()
    rows = test.lines("requests.jsonl")
    # All are sent before the first is answered.
    assert max(row["sent"] for row in rows) < min(row["ended"] for row in rows)
    assert len(rows) > 20


def test_requests_beyond_the_bound_are_dropped_and_recorded(tmp_path: Path, target: Target) -> None:
    profile = {"stages": [STEADY], "mix": {"models": {"slow=5": 1}}, "most_in_flight": 5}
    test = LoadTest(tmp_path, target.url, profile)
    test.end()
    rows = test.lines("requests.jsonl")
    dropped = [row for row in rows if row["error"] == "dropped"]
    assert len(rows) - len(dropped) == len(target.bodies) == 5
    assert len(dropped) > 10
    for row in dropped:
        assert set(row) == COLUMNS
        assert row["sent"] == row["ended"] == row["at"]
        assert (row["stage"], row["asked"], row["status"]) == ("steady 1", "slow=5", None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_writes_what_was(
    tmp_path: Path, target: Target, number: signal.Signals
) -> None:
    stages = [{**STEADY, "seconds": 600}]
    test = LoadTest(tmp_path, target.url, {"stages": stages, "mix": {"models": {"slow=2": 1}}})
    test.wait_for_requests(target)
    test.process.send_signal(number)
    printed = test.end()
    assert test.process.returncode == 130, printed
    assert test.run["interrupted"] is True
    assert test.run["sent_until"] + 1 < test.run["ended"] < 20  # some were still waited for
    rows = test.lines("requests.jsonl")
    assert len(rows) == len(target.bodies)
    assert {row["error"] for row in rows} == {None}  # what was in flight was waited for
    assert (test.folder / "report.html").exists()


def test_a_second_interrupt_waits_for_nothing(tmp_path: Path, target: Target) -> None:
    stages = [{**STEADY, "seconds": 600}]
    test = LoadTest(tmp_path, target.url, {"stages": stages, "mix": {"models": {"slow=60": 1}}})
    test.wait_for_requests(target)
    test.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    test.process.send_signal(signal.SIGINT)
    test.end()
    assert test.process.returncode == 130
    assert test.run["ended"] < 8
    assert {row["error"] for row in test.lines("requests.jsonl")} == {"interrupted"}
    assert (test.folder / "report.html").exists()


def test_what_must_not_be_driven_is_refused(tmp_path: Path) -> None:
    test = LoadTest(tmp_path, "http://192.0.2.1:8000", {"stages": [STEADY]})
    assert "192.0.2.1 is another machine" in test.end()
    assert test.process.returncode == 1
    assert not test.folder.exists()


def test_the_report_is_written_before_the_application_is_stopped(
    tmp_path: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile, folder = tmp_path / "profile.yaml", tmp_path / "out"
    profile.write_text(yaml.safe_dump({"stages": [{**STEADY, "seconds": 1}]}))
    there_before_the_stop = []

    @contextmanager
    def application(*_: object, **__: object) -> Iterator[str]:
        yield target.url
        # From the driving on, a second Ctrl-C changes nothing.
        os.kill(os.getpid(), signal.SIGINT)
        there_before_the_stop.append((folder / "report.html").exists())

    monkeypatch.setattr("ops.load.command.serving", application)
    given = ["--profile", str(profile), "--out", str(folder)]
    with keeping_signals(), pytest.raises(SystemExit) as ended:
        alone("load", "ops.load", given)
    assert ended.value.code == 0
    assert there_before_the_stop == [True]
    served = json.loads((folder / "run.json").read_text("utf-8"))["served"]
    assert served["config"].endswith("ops/demo/llms.yaml")


@contextmanager
def keeping_signals() -> Iterator[None]:
    """Restores the handlers that the program sets."""
    numbers = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_a_run_whose_records_can_not_be_written_fails(
    tmp_path: Path, target: Target, capfd: pytest.CaptureFixture[str]
) -> None:
    profile = parse_profile({"stages": [{**STEADY, "seconds": 600}]})
    (tmp_path / "requests.jsonl").symlink_to("/dev/full")
    run = Run.of(profile, plan(profile), target.url, {})
    with pytest.raises(RuntimeError, match="driver failed"):
        drive(run, tmp_path, "NO_KEY")
    assert "No space left on device" in capfd.readouterr().err
    assert Run.read(tmp_path).interrupted


def test_no_driver_is_left_behind(tmp_path: Path, target: Target) -> None:
    stages = [{**STEADY, "seconds": 600}]
    test = LoadTest(tmp_path, target.url, {"stages": stages, "mix": {"models": {"slow=60": 1}}})
    test.wait_for_requests(target)
    (driver,) = psutil.Process(test.process.pid).children()
    test.process.kill()
    driver.wait(PATIENCE_S)
    # Of such a run it is known when it began, so that its report can still be written.
    assert abs(test.run["began"] - time.time()) < PATIENCE_S


def test_locusts_page_shows_the_run_and_can_stop_it(tmp_path: Path, target: Target) -> None:
    port = free_port()
    stages = [{**STEADY, "seconds": 600}]
    test = LoadTest(tmp_path, target.url, {"stages": stages}, "--web", str(port))
    test.wait_for_requests(target)
    page = f"http://127.0.0.1:{port}"
    assert "locust" in httpx.get(page, trust_env=False).text.lower()
    time.sleep(1)  # until the first are answered
    stats = httpx.get(f"{page}/stats/requests", trust_env=False).json()["stats"]
    assert {"steady 1: text", "Aggregated"} == {entry["name"] for entry in stats}
    with suppress(httpx.RemoteProtocolError):  # it may be gone before it has replied
        httpx.post(f"{page}/stop", trust_env=False, timeout=PATIENCE_S)
    printed = test.end()
    assert test.process.returncode == 130, printed
    assert len(test.lines("requests.jsonl")) == len(target.bodies)


def test_it_can_be_interrupted_before_it_begins(tmp_path: Path, target: Target) -> None:
    test = LoadTest(tmp_path, target.url, {"stages": [STEADY]})
    assert test.process.stdout is not None
    assert "requests in 2 s" in test.process.stdout.readline()
    (driver,) = _children(test.process.pid)
    test.process.send_signal(signal.SIGINT)
    printed = test.end()
    assert (test.process.returncode, target.bodies) == (130, []), printed
    driver.wait(PATIENCE_S)


def _children(pid: int) -> list[psutil.Process]:
    deadline = time.monotonic() + PATIENCE_S
    found: list[psutil.Process] = []
    while not found:
        assert time.monotonic() < deadline, "nothing was started"
        time.sleep(0.01)
        found = psutil.Process(pid).children()
    return found
