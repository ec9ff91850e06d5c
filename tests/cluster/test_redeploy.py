"""Promise: a new configuration and fewer replicas cost no request, whole or streamed."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from ray import serve as rayserve
from serve_fixtures import Server, free_port, in_repository

from ops.bench.caller import Reply, ask
from ops.bench.fault_server import TEXT, TOKENS
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


def wait_for_replicas(*numbers: int, patience_s: float = 60) -> None:
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


class Traffic:
    """Steady requests, every other one streamed, while the block lasts; `replies` after it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()))
        self.requests_per_s = HEAVY
        self.replies: list[Reply | BaseException] = []

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._thread.join()

    async def _send(self) -> None:
        messages = [{"role": "user", "content": "Count."}]
        asking: list[asyncio.Task[Reply]] = []
        async with httpx.AsyncClient(base_url=self._url, timeout=60) as client:
            while not self._ends.is_set():
                body = {"model": "steady", "messages": messages, "stream": len(asking) % 2 == 0}
                asking.append(asyncio.create_task(ask(client, body)))
                await asyncio.sleep(1 / self.requests_per_s)
            self.replies = await asyncio.gather(*asking, return_exceptions=True)

    def assert_all_answered(self) -> None:
        """Every answer is whole, and every stream came to its end."""
        failed = [
            reply
            for reply in self.replies
            if not (isinstance(reply, Reply) and reply.is_answer and reply.text == TEXT)
        ]
        assert not failed, f"{len(failed)} of {len(self.replies)}: {failed[:5]}"
        assert len(self.replies) > HEAVY * STREAM_S


def test_fewer_replicas_of_a_model_and_of_the_router_cost_no_request(url: str) -> None:
    with Traffic(url) as traffic:
        wait_for_replicas(2)
        traffic.requests_per_s = LIGHT
        wait_for_replicas(1)
    traffic.assert_all_answered()


def test_a_new_configuration_under_load_costs_no_request(url: str, provider: str) -> None:
    with Traffic(url) as traffic:
        time.sleep(STREAM_S / 2)  # so that streams are in flight
        deploy(provider, context_window=2000)
        wait_for_replicas(1, 2)
    traffic.assert_all_answered()
    described = httpx.get(f"{url}/v1/models/steady").json()
    assert described["context_window"] == 2000
