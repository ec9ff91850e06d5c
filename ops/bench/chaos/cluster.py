"""The cluster: three nodes on this machine, the application on them, and their processes."""

import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import serve as rayserve
from ray.cluster_utils import Cluster
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from ops.ports import free_port
from serve.app import build

# The server's limit for a request: on a busy machine it takes Ray some 20 s to declare a node lost,
# and replicas that were streaming to it stall until then.
DEADLINE_S = 40.0
_CPUS = 8  # of each worker: enough for everything when the other one is lost
_APP = "llms"
# A token every 20 ms: an answer takes 1.2 s, so that some are always in flight.
_PROVIDERS_MODEL = "paced=0.02"

# With Ray's defaults it may take 15 s until a node is declared lost, and a replica that was
# streaming to it blocks as long. Settings in the environment take precedence.
_SETTINGS = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}

# What the model that runs here answers.
WORDS = "one sun set and the sea was red for all day yet two"

_PRICES = {"cost_per_input_token": 1e-7, "cost_per_output_token": 4e-7}
_MODELS = {"quick": 2, "only": 1, "here": 2}
REPLICAS = {**_MODELS, "Router": 2}


def configuration(provider: str, store: Path) -> dict[str, Any]:
    """Three models: hosted with two replicas, hosted with one, and one that runs here. And a store
    in a file, for smart routing."""

    def fixed(model: str) -> dict[str, int]:
        return {"min_replicas": REPLICAS[model], "max_replicas": REPLICAS[model]}

    hosted: dict[str, Any] = {"backend": "vllm", "hostname": provider, "model": _PROVIDERS_MODEL}
    # Not a real one, whose library takes seconds to import at each restart.
    words = len(WORDS.split())
    here = {"backend": "simulated", "answer_tokens": words, "tokens_per_second": 10}
    models = [
        {"name": name, "autoscaling": fixed(name), **_PRICES, **model}
        for name, model in {"quick": hosted, "only": hosted, "here": here}.items()
    ]
    server = {"autoscaling": fixed("Router"), "request_timeout": DEADLINE_S}
    return {"llms": {"models": models, "store": {"url": f"sqlite:///{store}"}}, "server": server}


class Nodes:
    """A head node with Serve's proxy and controller, and two workers with the replicas. Each has a
    cache of its own, as machines do.

    Attributes:
        caches: the folder of each node's cache, the head's first.
    """

    def __init__(self, folder: str) -> None:
        self.caches = [Path(folder) / "caches" / name for name in ("head", "one", "other")]
        of_head, *of_workers = ({"XDG_CACHE_HOME": str(cache)} for cache in self.caches)
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder, "env_vars": of_head}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.workers = [self.cluster.add_node(num_cpus=_CPUS, env_vars=of) for of in of_workers]

    def processes(self) -> dict[int, str]:
        """The title of each process, by its id."""
        nodes = [self.cluster.head_node, *self.workers]
        return {pid: title for node in nodes for pid, title in _children(node).items()}

    def copies(self) -> list[str | None]:
        """The version of the store's copy on each node with a router; None where there is none."""
        nodes = zip([self.cluster.head_node, *self.workers], self.caches, strict=True)
        with_router = [
            cache
            for node, cache in nodes
            if any(title.startswith(replica("Router")) for title in _children(node).values())
        ]
        found = [next(cache.rglob("manifest.json"), None) for cache in with_router]
        return [None if file is None else _version(file) for file in found]

    def first(self, title: str) -> list[int]:
        """The first process whose title starts so."""
        return [next(pid for pid, known in self.processes().items() if known.startswith(title))]

    def worker_processes(self) -> list[int]:
        """The processes of the worker with fewer routers, so that one router at least survives."""

        def routers(node: Any) -> int:
            return sum(replica("Router") in title for title in _children(node).values())

        node = min(self.workers, key=routers)
        return [*_children(node), _raylet(node)]

    def served_only_by(self, processes: Collection[int]) -> set[str]:
        """The models with no replica outside these processes.

        A node's loss may take both replicas, because Serve may restart one beside the other.
        """
        others = [title for pid, title in self.processes().items() if pid not in processes]
        return {name for name in _MODELS if not any(t.startswith(replica(name)) for t in others)}

    def are_healthy(self) -> bool:
        """Whether everything that should run does, by the processes and by Serve's status."""
        titles = list(self.processes().values())
        expected = {SEQUENCE: 1, STORE: 1, CONTROLLER: 1}
        expected |= {replica(name): number for name, number in REPLICAS.items()}
        if any(sum(t.startswith(title) for t in titles) < n for title, n in expected.items()):
            return False
        try:
            (app,) = rayserve.status().applications.values()
        except (RayError, RayServeException, ValueError):
            return False  # the controller is down
        running = {name: each.replica_states for name, each in app.deployments.items()}
        return running == {name: {"RUNNING": number} for name, number in REPLICAS.items()}


SEQUENCE, STORE, CONTROLLER = "ray::SequenceActor", "ray::StoreActor", "ray::ServeController"


def replica(deployment: str) -> str:
    return f"ray::ServeReplica:{_APP}:{deployment}"


def _version(manifest: Path) -> str:
    version: str = json.loads(manifest.read_text())["version"]
    return version


def _raylet(node: Any) -> int:
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


def _children(node: Any) -> dict[int, str]:
    titles = {}
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(_raylet(node)).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                titles[child.pid] = " ".join(child.cmdline())
    return titles


@contextmanager
def running(provider: str) -> Iterator[tuple[str, Nodes]]:
    """Runs the application until the block ends; yields its URL and its nodes."""
    temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    os.environ.update(_SETTINGS | os.environ)
    with temporary as folder:
        nodes = Nodes(folder)
        try:
            ray.init(nodes.cluster.address, log_to_driver=False)
            port = free_port()
            http = {"host": "127.0.0.1", "port": port}
            rayserve.start(proxy_location="HeadOnly", http_options=http)
            rayserve.run(build(configuration(provider, Path(folder) / "store.db")), name=_APP)
            yield f"http://127.0.0.1:{port}", nodes
        finally:
            ray.shutdown()
            nodes.cluster.shutdown()  # type: ignore[no-untyped-call]
