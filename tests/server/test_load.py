"""Promise: a load test of the real application records its answers, and leaves nothing of it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from serve_fixtures import Server

PROFILE = """
stages: [{kind: steady, seconds: 5, rate: 4}]
prompts: {distribution: constant, tokens: 40}
answers: {distribution: constant, tokens: 16}
mix: {stream: 0.5, json_schema: 0.2, models: {auto: 2, demo-small: 1}}
"""


def test_answers_of_the_application_are_recorded(smart: Server, tmp_path: Path) -> None:
    profile, folder = tmp_path / "profile.yaml", tmp_path / "run"
    profile.write_text(PROFILE)
    given = ("--url", smart.url, "--profile", str(profile), "--out", str(folder))
    done = subprocess.run(
        [sys.executable, "-m", "ops.load", *given], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines()]
    assert len(rows) > 5
    for row in rows:
        assert (row["error"], row["status"], row["attempts"]) == (None, 200, 1)
        assert row["model"] in {"demo-small", "demo-large"}
        assert row["prompt_tokens"] > 100
        assert 0 < row["completion_tokens"] <= 16
        assert row["cost"] > 0
        assert (row["quality"] is not None) == (row["asked"] == "auto")
    assert {row["strategy"] for row in rows if row["asked"] == "auto"} == {"smart"}
    assert {row["kind"] for row in rows} == {"text", "json"}


CONFIG = """
llms: {models: [{name: simulated, backend: simulated}]}
server: {autoscaling: {min_replicas: 1, max_replicas: 1}}
"""
PATIENCE_S = 90


@pytest.fixture
def short_folder() -> Iterator[str]:
    """For what a killed test can't remove; short, since Ray creates sockets in it."""
    with tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True) as folder:
        yield folder


def test_the_application_ends_if_its_load_test_is_killed(tmp_path: Path, short_folder: str) -> None:
    config, profile, folder = tmp_path / "llms.yaml", tmp_path / "profile.yaml", tmp_path / "run"
    config.write_text(CONFIG)
    profile.write_text("stages: [{kind: steady, seconds: 600, rate: 4}]")
    given = ("--config", str(config), "--profile", str(profile), "--out", str(folder))
    test = subprocess.Popen(
        [sys.executable, "-m", "ops.load", *given], env={**os.environ, "TMPDIR": short_folder}
    )
    try:
        requests = folder / "requests.jsonl"
        deadline = time.monotonic() + PATIENCE_S
        while not requests.exists() or not requests.read_text():
            assert time.monotonic() < deadline
            assert test.poll() is None
            time.sleep(0.2)
        started = psutil.Process(test.pid).children(recursive=True)
    finally:
        test.kill()
    test.wait(PATIENCE_S)
    _, left = psutil.wait_procs(started, PATIENCE_S)
    for process in left:
        process.kill()
    assert len(started) > 5
    assert left == []
