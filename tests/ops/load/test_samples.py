"""Promise: a scrape becomes a sample of every deployment; one that fails says why."""

import json
import time
from pathlib import Path

import pytest
from load_target import METRICS, serving

from ops.load.samples import Sampler, read
from ops.ports import free_port

NOTHING = dict.fromkeys(("wanted", "running", "starting", "stopping", "queued", "ongoing"), 0)
DEPLOYMENTS = {
    "demo": {**NOTHING, "wanted": 3, "running": 2, "starting": 1, "queued": 9, "ongoing": 1},
    "Router": {**NOTHING, "running": 1, "ongoing": 10},
}


def test_replicas_are_summed_for_each_deployment() -> None:
    assert read(METRICS.splitlines()) == {"deployments": DEPLOYMENTS, "nodes": 2}


def test_names_with_quotes_and_spaces_are_read() -> None:
    line = r'llm_replicas{deployment="a \"b\" {c}",state="running"} 1 1700000000000'
    assert list(read([line])["deployments"]) == [r"a \"b\" {c}"]


def test_nodes_may_be_unknown() -> None:
    lines = [line for line in METRICS.splitlines() if not line.startswith("llm_nodes")]
    assert read(lines)["nodes"] is None


def test_metrics_of_another_service_are_no_sample() -> None:
    with pytest.raises(ValueError, match="has no llm_replicas"):
        read(["# TYPE up gauge", "up 1"])


def samples(url: str, file: Path, key: str = "") -> list[dict[str, object]]:
    with Sampler(url, key, file, time.time()):
        time.sleep(1.5)
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_sample_a_second_is_written(tmp_path: Path) -> None:
    with serving() as target:
        first, second = samples(target.url, tmp_path / "samples.jsonl", "sk-1")
    assert target.keys == {"Bearer sk-1"}
    for sample in (first, second):
        assert {**sample, "at": 0} == {"at": 0, "deployments": DEPLOYMENTS, "nodes": 2}
    assert first["at"] != second["at"]


def test_why_there_is_no_sample_is_written(tmp_path: Path) -> None:
    first, *_ = samples(f"http://127.0.0.1:{free_port()}", tmp_path / "samples.jsonl")
    assert "ConnectError" in str(first["error"])
    with serving() as target:
        first, *_ = samples(f"{target.url}/wrong", tmp_path / "samples.jsonl")
    assert first["error"] == "/metrics answered 404"


def test_a_sample_that_makes_no_sense_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("load_target.METRICS", METRICS.replace("} 3", "} +Inf"))
    with serving() as target:
        first, second = samples(target.url, tmp_path / "samples.jsonl")
    assert "OverflowError" in str(first["error"])
    assert "OverflowError" in str(second["error"])
