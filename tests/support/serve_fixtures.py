"""A real local Ray that serves the application, for tests over HTTP."""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import ray
from large_parts import LargeParts
from ray import serve as rayserve
from vllm_fixtures import KEY, VLLMServer, environment

from ops.demo.outcomes import HISTORY_FILE
from ops.ports import free_port
from serve.app import build
from serve.config import DEFAULT_CONFIG

DEMO_MODELS = DEFAULT_CONFIG.parent / "models"


def huggingface(name: str, folder: str, **more: object) -> dict[str, object]:
    """The config of a demo model that runs in its replica, under any name."""
    return {"name": name, "backend": "huggingface", "model": str(DEMO_MODELS / folder), **more}


# Secrets in the cluster's environment, which must appear nowhere.
CANARIES = {
    "CANARY_PROVIDER_KEY": "sk-canary-provider-0123456789abcdef0123456789abcdef",
    "OPENAI_API_KEY": "sk-canary-openai-0123456789abcdef0123456789abcdef",
    "CANARY_ROUTER_KEY": "sk-canary-router-0123456789abcdef0123456789abcdef",
    "CANARY_PASSWORD": "canary-password-0123456789abcdef",
}

# Where Ray exports its metrics, including the engines'.
METRICS_PORT = free_port()


@dataclass(frozen=True)
class Server:
    """The running application."""

    url: str

    def client(self) -> openai.OpenAI:
        """OpenAI's own client, without retries."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60)

    def wait_until(self, status: str, patience_s: float = 60) -> None:
        """Waits for /health/ready to say `status`."""
        self.wait_for(lambda health: health.get("status") == status, patience_s)

    def wait_for(self, holds: Callable[[dict[str, Any]], bool], patience_s: float = 60) -> None:
        """Waits until the condition holds for /health/ready."""
        deadline = time.monotonic() + patience_s
        while not holds(health := self.health()):
            assert time.monotonic() < deadline, health
            time.sleep(0.2)

    def health(self) -> dict[str, Any]:
        """The body of /health/ready, or the error."""
        try:
            return dict(httpx.get(f"{self.url}/health/ready", timeout=10).json())
        except (httpx.HTTPError, ValueError) as error:
            return {"error": str(error)}


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A local Ray with Serve's proxy on a free port; gives the proxy's URL."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        with pytest.MonkeyPatch.context() as patch:
            # Replicas inherit the environment that Ray was started with.
            for name, value in {"ENGINE_KEY": KEY, **CANARIES, **environment(Path(folder))}.items():
                patch.setenv(name, value)
            ray.init(
                address="local",
                num_cpus=32,
                include_dashboard=False,
                _temp_dir=folder,
                _metrics_export_port=METRICS_PORT,
                _system_config={"metrics_report_interval_ms": 200},
                log_to_driver=False,
            )
        rayserve.start(http_options={"host": "127.0.0.1", "port": port})
        yield f"http://127.0.0.1:{port}"
        rayserve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


@pytest.fixture(scope="session")
def every_kind(ray_cluster: str, vllm_server: VLLMServer, large_parts: LargeParts) -> Server:
    """Models of every kind behind two router replicas."""
    engine = {"model": vllm_server.model, "hostname": vllm_server.url, "api_key": "${ENGINE_KEY}"}
    models = [
        {"name": "engine", "backend": "vllm", **engine},
        {"name": "hosted", "backend": "hosted_vllm", **engine, "hostname": f"{vllm_server.url}/v1"},
        huggingface("demo-small", "demo-small"),
        huggingface("demo-large", "demo-large"),
        huggingface("demo/third", "demo-small"),
        huggingface("single", "demo-small", max_ongoing_requests=1),
        # Nothing listens there.
        {
            "name": "down",
            "backend": "vllm",
            "hostname": f"http://127.0.0.1:{free_port()}",
            "fallbacks": ["demo-small"],
        },
        huggingface("sleeper", "demo-small", autoscaling={"min_replicas": 0, "max_replicas": 1}),
    ]
    two = {"min_replicas": 2, "max_replicas": 2}
    app = build({"llms": {"models": models}, "server": {"autoscaling": two}})
    rayserve.run(app, name="llms", route_prefix="/")
    large_parts.started("every_kind", partial(delete, "llms"))
    running = Server(ray_cluster)
    running.wait_for(lambda health: unavailable(health) == {"down"})
    return running


@pytest.fixture(scope="session")
def smart_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the store of `smart` is."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def smart(ray_cluster: str, smart_folder: Path, large_parts: LargeParts) -> Server:
    """The two demo models, with a part of their history, behind two router replicas."""
    history = smart_folder / "history.jsonl"
    history.write_text("\n".join(HISTORY_FILE.read_text().splitlines()[::4]))
    small = {"cost_per_input_token": 1e-8, "cost_per_output_token": 4e-8}
    large = {"cost_per_input_token": 1e-7, "cost_per_output_token": 4e-7}
    app = build(
        {
            "llms": {
                "models": [
                    huggingface("demo-small", "demo-small", **small),
                    huggingface("demo-large", "demo-large", **large),
                ],
                "router": {
                    "strategy": "smart",
                    "performance_requirement": 0.9,
                    "show_queries": True,
                },
                "store": {"url": f"sqlite:///{smart_folder}/store.db", "history": str(history)},
            },
            "server": {"autoscaling": {"min_replicas": 2, "max_replicas": 2}},
        }
    )
    rayserve.run(app, name="smart", route_prefix="/smart")
    large_parts.started("smart", partial(delete, "smart"))
    running = Server(f"{ray_cluster}/smart")
    running.wait_until("ready", patience_s=120)
    return running


def delete(app: str) -> None:
    """Deletes an application, unless Ray has ended before it: a call would start another Ray."""
    if ray.is_initialized():
        rayserve.delete(app)


def unavailable(health: dict[str, Any]) -> set[str]:
    """The models that are unavailable according to /health/ready."""
    return {name for name, model in health.get("models", {}).items() if not model["available"]}


def kill_actor(*parts: str) -> None:
    """Kills an actor as a crash would; its name contains these parts."""
    for actor in ray.util.list_named_actors(all_namespaces=True):
        if all(part in actor["name"] for part in parts):
            ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))
            return
    raise AssertionError(f"no actor's name contains {parts}")


def in_repository(path: str) -> Path:
    """A path of the repository."""
    return Path(__file__).parents[2] / path
