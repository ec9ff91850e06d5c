"""Promise: `python -m ops.apply` changes hosted models in place; the rest only with `--restart`."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import ray
import yaml
from fake_providers import Fake, chunk, serving, streaming, usage
from ray import serve as rayserve
from serve_fixtures import Server, huggingface, in_repository
from traffic import Traffic

from ops.ray_internals import deploy_applications

APP = "applied"


@pytest.fixture(scope="module")
def provider() -> Iterator[Fake]:
    """Takes half a second for each answer."""
    said = chunk(delta={"role": "assistant", "content": "Hello"}), 0.5, chunk(finish_reason="stop")
    with serving(streaming(*said, usage())) as fake:
        yield fake


def configuration(provider: Fake, **models: dict[str, Any]) -> dict[str, Any]:
    """A configuration of these models at the provider, and of others as they are given."""
    hosted = {"backend": "vllm", "hostname": provider.url}
    written = [
        {"name": name, **(fields.get("local") or hosted | fields)}
        for name, fields in models.items()
    ]
    two = {"min_replicas": 2, "max_replicas": 2}
    return {"llms": {"models": written}, "server": {"autoscaling": two}}


@pytest.fixture(scope="module")
def server(ray_cluster: str, provider: Fake) -> Iterator[Server]:
    """Two hosted models behind two router replicas."""
    application = {
        "name": APP,
        "route_prefix": f"/{APP}",
        "import_path": "serve.app:build",
        "runtime_env": {"env_vars": {"PYTHONPATH": str(in_repository("."))}},
        "args": configuration(provider, steady={}, other={}),
    }
    deploy_applications([application])
    running = Server(f"{ray_cluster}/{APP}")
    running.wait_until("ready", patience_s=120)
    yield running
    rayserve.delete(APP)


def apply(folder: Path, config: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    file = folder / "models.yaml"
    file.write_text(yaml.safe_dump(config))
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-m", "ops.apply", file, "--name", APP, "--address", address]
    return subprocess.run(
        [*command, *options], cwd=in_repository("."), capture_output=True, text=True, timeout=120
    )


def processes() -> set[int]:
    """The ids of the application's processes."""
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if f"ray::ServeReplica:{APP}:" in " ".join(process.info["cmdline"] or ())
    }


def chat(server: Server, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def test_hosted_models_change_without_a_process_or_a_request_lost(
    server: Server, provider: Fake, tmp_path: Path
) -> None:
    before = processes()
    with Traffic(server.url, "steady", 20) as traffic:
        changed = configuration(provider, steady={}, other={"timeout": 9}, more={})
        added = apply(tmp_path, changed)
        assert added.returncode == 0, added.stderr
        assert added.stdout.startswith("added: more\nchanged: other\napplied in ")
        assert chat(server, "more").status_code == 200
        removed = apply(tmp_path, configuration(provider, steady={"timeout": 8}, more={}))
        assert removed.stdout.startswith("changed: steady\nremoved: other\n"), removed
        server.wait_for(lambda health: health.get("models", {}).keys() == {"steady", "more"})
    traffic.assert_all_answered("Hello")
    assert processes() == before
    assert chat(server, "other").json()["error"]["code"] == "model_not_found"
    assert (
        "nothing has changed"
        in apply(tmp_path, configuration(provider, steady={"timeout": 8}, more={})).stdout
    )


def test_a_model_that_runs_here_needs_a_restart(
    server: Server, provider: Fake, tmp_path: Path
) -> None:
    before = processes()
    local = {"local": {k: v for k, v in huggingface("", "demo-small").items() if k != "name"}}
    config = configuration(provider, steady={}, small=local)
    refused = apply(tmp_path, config)
    assert refused.returncode == 1
    assert "all processes of the application would be replaced" in refused.stdout
    assert "removed: more" in refused.stdout
    assert "--restart" in refused.stderr
    assert processes() == before
    applied = apply(tmp_path, config, "--restart")
    assert applied.returncode == 0, applied.stderr
    assert chat(server, "small").status_code == 200
    assert chat(server, "steady").status_code == 200


def test_a_wrong_configuration_changes_nothing(
    server: Server, provider: Fake, tmp_path: Path
) -> None:
    refused = apply(tmp_path, configuration(provider, steady={"timeot": 9}))
    assert refused.returncode == 1
    assert "llms.models.0.timeot: unknown key" in refused.stderr
    assert chat(server, "steady").status_code == 200
