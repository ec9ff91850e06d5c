"""Promise: load adds nodes and idleness removes them; requests are held meanwhile, and answered.

The GPUs exist only in Ray's accounting.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import psutil
import pytest
from ray._private.state import GlobalState
from ray._raylet import GcsClientOptions  # type: ignore[attr-defined]
from serve_fixtures import Server

from ops.load.cluster import MAX_NODES, NODE, growing
from ops.load.ray_internals import node_address
from ops.ports import free_port

PATIENCE_S = 90
CALLERS = 12
# Of one replica; four replicas fill two nodes.
GPUS = 2
AUTOSCALING = {
    "min_replicas": 0,
    "max_replicas": MAX_NODES * NODE["GPU"] // GPUS,
    "target_ongoing_requests": 2,
    "metrics_interval_s": 0.5,
    "look_back_period_s": 2,
    "upscale_delay_s": 0.5,
    "downscale_delay_s": 2,
}
# An answer takes a second.
SIMULATED = {
    "backend": "simulated",
    "places": 2,
    "tokens_per_second": 20,
    "answer_tokens": 20,
    "start_seconds": 1,
}
MODELS = [
    {"name": "model", **SIMULATED, "gpus": GPUS, "autoscaling": AUTOSCALING},
    {
        "name": "too-large",
        **SIMULATED,
        "gpus": 2 * NODE["GPU"],
        "autoscaling": {**AUTOSCALING, "max_replicas": 1},
    },
]


class Cluster:
    """The application, and the nodes that it has."""

    def __init__(self, url: str, address: str) -> None:
        self.url = url
        self._server = Server(url)
        # What `ray.nodes()` reads, without making this process a part of the cluster.
        self._nodes = GlobalState()  # type: ignore[no-untyped-call]
        options = {"allow_cluster_id_nil": True, "fetch_cluster_id_if_nil": False}
        self._nodes._initialize_global_state(GcsClientOptions.create(address, None, **options))

    def gpus(self) -> list[float]:
        """The GPUs of each node that is alive, the head first."""
        nodes = self._nodes.node_table()  # type: ignore[no-untyped-call]
        return sorted(node["Resources"].get("GPU", 0) for node in nodes if node["Alive"])

    def replicas(self) -> int:
        """Replicas of the model that run."""
        count: int = self._server.health()["models"]["model"]["replicas"]
        return count

    def ask(self, model: str, **headers: str) -> httpx.Response:
        """The reply to a short question."""
        return httpx.post(
            f"{self.url}/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": "How are you?"}]},
            headers=headers,
            timeout=PATIENCE_S,
        )

    def ask_until(self, enough: Event) -> list[int]:
        """The statuses of one request after the other."""
        statuses = []
        while not enough.is_set():
            statuses.append(self.ask("model").status_code)
        return statuses

    def wait_until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, (self.gpus(), self._server.health())
            time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The head alone, where both models sleep. Nothing of it may be left at the end."""
    log = tmp_path_factory.mktemp("growth") / "log"
    port = free_port()
    server = {"autoscaling": {"min_replicas": 1, "max_replicas": 1}, "request_timeout": PATIENCE_S}
    config = {"llms": {"models": MODELS}, "server": server}
    before = set(psutil.Process().children(recursive=True))
    with growing(config, log, {"RAY_GCS_SERVER_PORT": str(port)}) as url:
        yield Cluster(url, f"{node_address()}:{port}")
        started = set(psutil.Process().children(recursive=True)) - before
        commands = " ".join(word for process in started for word in process.cmdline())
        folders = set(re.findall(rf"{tempfile.gettempdir()}/ray-\w+", commands))
    _, left = psutil.wait_procs(started, timeout=5)
    assert folders
    assert not left
    assert not [folder for folder in folders if Path(folder).exists()]


def test_nodes_come_with_the_load_and_go_with_it(cluster: Cluster) -> None:
    with ThreadPoolExecutor(CALLERS) as pool:
        assert (cluster.gpus(), cluster.replicas()) == ([0], 0)
        # Of a sleeping model, the first request is held until a node and a replica have come, and
        # so is one that comes meanwhile.
        first = pool.submit(cluster.ask, "model")
        cluster.wait_until(lambda: cluster.gpus() == [0, NODE["GPU"]])
        assert not first.done()
        second = cluster.ask("model")
        assert (first.result().status_code, second.status_code) == (200, 200)

        enough = Event()
        callers: list[Future[list[int]]] = [
            pool.submit(cluster.ask_until, enough) for _ in range(CALLERS)
        ]
        try:
            cluster.wait_until(lambda: cluster.replicas() == AUTOSCALING["max_replicas"])
            assert cluster.gpus() == [0, *[NODE["GPU"]] * MAX_NODES]
        finally:
            enough.set()
        statuses = [status for caller in callers for status in caller.result()]
        assert set(statuses) == {200}

    cluster.wait_until(lambda: cluster.replicas() == 0)
    cluster.wait_until(lambda: cluster.gpus() == [0])


def test_a_request_for_a_model_that_no_node_has_room_for_ends_in_time(cluster: Cluster) -> None:
    reply = cluster.ask("too-large", **{"x-request-timeout-seconds": "3"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "timeout")
    assert "'too-large' has not started" in reply.json()["error"]["message"]
