"""Promise: `python -m ops.apply` changes hosted models in place; the rest only with `--restart`."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


@pytest.fixture(scope="module")
def provider() -> Iterator[Fake]:
    """Takes half a second for each answer."""
    said = chunk(delta={"role": "assistant", "content": "Hello"}), 0.5, chunk(finish_reason="stop")
    with serving(streaming(*said, usage())) as fake:
        yield fake


@dataclass(frozen=True)
class Application:
    """A running application: its name, its URL, its models' provider, and `llms.hosted`."""

    name: str
    url: str
    provider: Fake
    hosted: dict[str, Any]

    def configuration(self, **models: dict[str, Any]) -> dict[str, Any]:
        """A configuration of these models at the provider, and of others as they are given."""
        hosted = {"backend": "vllm", "hostname": self.provider.url}
        written = [
            {"name": name, **(fields.get("local") or hosted | fields)}
            for name, fields in models.items()
        ]
        two = {"min_replicas": 2, "max_replicas": 2}
        return {
            "llms": {"models": written, "hosted": self.hosted},
            "server": {"autoscaling": two},
        }

    def apply(
        self, folder: Path, config: dict[str, Any], *options: str
    ) -> subprocess.CompletedProcess[str]:
        file = folder / "models.yaml"
        file.write_text(yaml.safe_dump(config))
        address = ray.get_runtime_context().gcs_address
        command = [sys.executable, "-m", "ops.apply", str(file), "--name", self.name]
        return subprocess.run(
            [*command, "--address", address, *options],
            cwd=in_repository("."),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def processes(self) -> set[int]:
        """The ids of its processes."""
        return {
            process.pid
            for process in psutil.process_iter(["cmdline"])
            if f"ray::ServeReplica:{self.name}:" in " ".join(process.info["cmdline"] or ())
        }

    def chat(self, model: str) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60)


@contextmanager
def running(url: str, name: str, provider: Fake, **hosted: Any) -> Iterator[Application]:
    """Two hosted models behind two router replicas."""
    application = Application(name, f"{url}/{name}", provider, hosted)
    written = {
        "name": name,
        "route_prefix": f"/{name}",
        "import_path": "serve.app:build",
        "runtime_env": {"env_vars": {"PYTHONPATH": str(in_repository("."))}},
        "args": application.configuration(steady={}, other={}),
    }
    deploy_applications([written])
    try:
        Server(application.url).wait_until("ready", patience_s=120)
        _wait_for_all_replicas(name)
        yield application
    finally:
        rayserve.delete(name)


def _wait_for_all_replicas(name: str) -> None:
    deadline = time.monotonic() + 60
    while rayserve.status().applications[name].status != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def application(ray_cluster: str, provider: Fake) -> Iterator[Application]:
    with running(ray_cluster, "applied", provider) as application:
        yield application


def test_hosted_models_change_without_a_process_or_a_request_lost(
    application: Application, tmp_path: Path
) -> None:
    _change_under_load(application, tmp_path)


def test_a_model_that_runs_here_needs_a_restart(application: Application, tmp_path: Path) -> None:
    before = application.processes()
    local = {"local": {k: v for k, v in huggingface("", "demo-small").items() if k != "name"}}
    config = application.configuration(steady={}, small=local)
    refused = application.apply(tmp_path, config)
    assert refused.returncode == 1
    assert "all processes of the application would be replaced" in refused.stdout
    assert "removed: more" in refused.stdout
    assert "--restart" in refused.stderr
    assert application.processes() == before
    applied = application.apply(tmp_path, config, "--restart")
    assert applied.returncode == 0, applied.stderr
    assert application.chat("small").status_code == 200
    assert application.chat("steady").status_code == 200


def test_a_wrong_configuration_changes_nothing(application: Application, tmp_path: Path) -> None:
    refused = application.apply(tmp_path, application.configuration(steady={"timeot": 9}))
    assert refused.returncode == 1
    assert "llms.models.0.timeot: unknown key" in refused.stderr
    assert application.chat("steady").status_code == 200


def test_models_in_the_router_change_likewise(
    ray_cluster: str, provider: Fake, tmp_path: Path
) -> None:
    with running(ray_cluster, "in-router", provider, in_router=True) as application:
        for pid in application.processes():
            (title, *_) = psutil.Process(pid).cmdline()
            assert title.startswith("ray::ServeReplica:in-router:Router"), "no other deployment"
        _change_under_load(application, tmp_path)


def _change_under_load(application: Application, tmp_path: Path) -> None:
    before = application.processes()
    configuration = application.configuration
    with Traffic(application.url, "steady", 20) as traffic:
        added = application.apply(tmp_path, configuration(steady={}, other={"timeout": 9}, more={}))
        assert added.returncode == 0, added.stderr
        assert added.stdout.startswith("added: more\nchanged: other\napplied in ")
        with Traffic(application.url, "more", 5) as more:
            again = configuration(steady={"timeout": 8}, more={"timeout": 9})
            removed = application.apply(tmp_path, again)
            assert removed.stdout.startswith("changed: more, steady\nremoved: other\n"), removed
            Server(application.url).wait_for(
                lambda health: health.get("models", {}).keys() == {"steady", "more"}
            )
        more.assert_all_answered("Hello")
    traffic.assert_all_answered("Hello")
    assert application.processes() == before
    assert application.chat("other").json()["error"]["code"] == "model_not_found"
    assert "nothing has changed" in application.apply(tmp_path, again).stdout
