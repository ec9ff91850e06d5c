"""Promise: a load test of the real application records what its router says of each answer."""

import json
import subprocess
import sys
from pathlib import Path

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
