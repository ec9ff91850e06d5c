"""Promise: a new configuration and fewer replicas cost no request, whole or streamed."""

import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import pytest
from ray import serve as rayserve
from serve_fixtures import Server, in_repository
from traffic import Traffic

from ops.bench.fault_server import TEXT, TOKENS
from ops.ports import free_port
from serve.app import build

APP = "redeploy"
STREAM_S = 2.0
# Requests per second that keep two replicas busy, and one.
HEAVY, LIGHT = 8, 2
AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 2,
    "target_ongoing_requests": 3 * LIGHT * STREAM_S,
    "metrics_interval_s": 0.2,
    "look_back_period_s": 1,
    "upscale_delay_s": 0,
    "downscale_delay_s": 1,
}

# Ray wants an environment variable instead, for all applications.
pytestmark = pytest.mark.filterwarnings("ignore:The `metrics_interval_s` field")


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    """The provider's URL. It is a process of its own, which accepts connections at once whatever
    the callers' threads in this process do."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.bench.fault_server", "--port", str(port)],
        cwd=in_repository("."),
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until_listening(url)
        yield url
    finally:
        process.kill()
        process.wait()


def wait_until_listening(url: str, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            httpx.get(url)
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline, "the provider did not start"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def url(ray_cluster: str, provider: str) -> Iterator[str]:
    deploy(provider, context_window=1000)
    server = Server(f"{ray_cluster}/{APP}")
    server.wait_until("ready")
    yield server.url
    rayserve.delete(APP)


def deploy(provider: str, context_window: int) -> None:
    model = {
        "name": "steady",
        "backend": "vllm",
        "model": f"paced={STREAM_S / TOKENS}",
        "hostname": provider,
        "context_window": context_window,
        "autoscaling": AUTOSCALING,
    }
    app = build({"llms": {"models": [model]}, "server": {"autoscaling": AUTOSCALING}})
    rayserve.run(app, name=APP, route_prefix=f"/{APP}")


def wait_for_replicas(*numbers: int, patience_s: float = 120) -> None:
    """Waits until each deployment has one of these numbers of replicas, all running."""
    deadline = time.monotonic() + patience_s
    while any(states not in [{"RUNNING": n} for n in numbers] for states in replicas()):
        assert time.monotonic() < deadline, replicas()
        time.sleep(0.1)


def replicas() -> list[dict[str, int]]:
    """The number of replicas in each state, for each deployment."""
    deployments = rayserve.status().applications[APP].deployments
    return [
        {str(state): number for state, number in deployment.replica_states.items()}
        for deployment in deployments.values()
    ]


def test_fewer_replicas_of_a_model_and_of_the_router_cost_no_request(url: str) -> None:
    with Traffic(url, "steady", HEAVY) as traffic:
        wait_for_replicas(2)
        traffic.requests_per_s = LIGHT
        wait_for_replicas(1)
    traffic.assert_all_answered(TEXT, at_least=HEAVY * STREAM_S + 1)


def test_a_new_configuration_under_load_costs_no_request(url: str, provider: str) -> None:
    with Traffic(url, "steady", HEAVY) as traffic:
        time.sleep(STREAM_S / 2)  # so that streams are in flight
        deploy(provider, context_window=2000)
        wait_for_replicas(1, 2)
    traffic.assert_all_answered(TEXT, at_least=HEAVY * STREAM_S + 1)
    described = httpx.get(f"{url}/v1/models/steady").json()
    assert described["context_window"] == 2000
