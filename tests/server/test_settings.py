"""Promise: routing settings and prices change at runtime, without a restart."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import serve as rayserve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
from serve_fixtures import Server, huggingface, in_repository

PRICE = {"cost_per_input_token": 1e-7, "cost_per_output_token": 1e-7}
QUESTION = {
    "model": "demo-small",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
}


def deploy(folder: Path, user_config: dict[str, Any] | None) -> None:
    """Deploys as `serve deploy` does with a Serve config file."""
    args = {
        "llms": {
            "models": [huggingface("demo-small", "demo-small", **PRICE)],
            "router": {"strategy": "smart"},
            "store": {"url": f"sqlite:///{folder}/store.db"},
        }
    }
    application: dict[str, Any] = {
        "name": "tuned",
        "route_prefix": "/tuned",
        "import_path": "serve.app:build",
        "runtime_env": {"env_vars": {"PYTHONPATH": str(in_repository("."))}},
        "args": args,
    }
    if user_config is not None:
        application["deployments"] = [{"name": "Router", "user_config": user_config}]
    config = ServeDeploySchema.model_validate({"applications": [application]})
    client = _get_global_client()
    assert client
    client.deploy_apps(config, _blocking=True)


def replicas() -> set[str]:
    """The names of all the application's actors."""
    deployments = rayserve.status().applications["tuned"].deployments
    assert {deployment.status.value for deployment in deployments.values()} == {"HEALTHY"}
    names = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
    return {name for name in names if "tuned" in name}


def ask(server: Server) -> httpx.Headers:
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=QUESTION, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.headers


def wait_for(server: Server, header: str, value: object) -> httpx.Headers:
    deadline = time.monotonic() + 60
    while (headers := ask(server))[header] != value:
        assert time.monotonic() < deadline, headers
        time.sleep(0.2)
    return headers


@pytest.fixture
def tuned(ray_cluster: str, tmp_path: Path) -> Iterator[Server]:
    deploy(tmp_path, None)
    server = Server(f"{ray_cluster}/tuned")
    server.wait_until("ready", patience_s=120)
    yield server
    rayserve.delete("tuned")


def test_the_user_config_overrides_settings_and_the_rest_stays_as_configured(
    tuned: Server, tmp_path: Path
) -> None:
    before, at_first = replicas(), ask(tuned)
    assert at_first["x-router-strategy"] == "smart"
    dearer = f"{10 * float(at_first['x-router-cost']):.9g}"

    deploy(tmp_path, {"prices": {"demo-small": [1e-6, 1e-6]}})
    assert wait_for(tuned, "x-router-cost", dearer)["x-router-strategy"] == "smart"
    model = httpx.get(f"{tuned.url}/v1/models/demo-small", timeout=10).json()
    assert model["cost_per_input_token"] == 1e-6

    deploy(tmp_path, {"router": {"strategy": "sequential"}})
    headers = wait_for(tuned, "x-router-strategy", "sequential")
    assert headers["x-router-cost"] == at_first["x-router-cost"]

    deploy(tmp_path, {"router": {"performance_requirement": 0.9}})
    wait_for(tuned, "x-router-strategy", "smart")
    assert replicas() == before
