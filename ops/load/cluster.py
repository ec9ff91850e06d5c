"""Serves the application on a cluster that grows: Ray's autoscaler, and nodes on this machine."""

import argparse
import json
import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import serve as rayserve
from ray.cluster_utils import Cluster

from ops.bench.application import running
from ops.load.ray_internals import FAKE_HEAD, FAKE_NODES, node_address
from ops.local.ray_settings import FAST
from ops.local.serving import LOOPBACK, ending_signals, interrupt_on_signals
from ops.local.startup import APPLICATION
from ops.ports import free_port

# The nodes that are added: at most so many, each with GPUs that exist only in Ray's accounting.
MAX_NODES, NODE = 2, {"CPU": 8, "GPU": 4}
# Seconds without a replica after which a node is removed.
IDLE_S = 10.0

# An example for it.
GROWING_CONFIG = Path(__file__).parent / "growing.yaml"

_HEAD = "ray.head.default"  # as the provider of the nodes calls it
_HEAD_CPUS = 8  # for all that needs no GPU
_STOP_S = 10.0
SETTINGS = {
    **FAST,
    # Otherwise replicas without GPUs are spread, and keep nodes with GPUs from being removed.
    "RAY_SERVE_USE_PACK_SCHEDULING_STRATEGY": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_FAKE_CLUSTER": "1",
    # The autoscaler that drains a node before it removes it.
    "RAY_enable_autoscaler_v2": "1",
}
# What the autoscaler requires, though nothing is copied to a node on this machine or run there.
_UNUSED: dict[str, Any] = {
    "file_mounts": {},
    "cluster_synced_files": [],
    "setup_commands": [],
    "head_setup_commands": [],
    "worker_setup_commands": [],
}
# Each node's own, by which the autoscaler recognizes the head.
_OF_HEAD = {
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD,
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD,
    "RAY_NODE_TYPE_NAME": _HEAD,
}


def growing(
    config: Mapping[str, Any], log: Path, environment: Mapping[str, str] | None = None
) -> AbstractContextManager[str]:
    """Runs the application, in processes of its own, on a head without GPUs and on up to
    `MAX_NODES` more nodes, which come when replicas find no room, and go after `IDLE_S` seconds
    without any.

    Args:
        config: as for `serve.app.build`.
        log: a file for what it prints.
        environment: variables for its processes. `RAY_GCS_SERVER_PORT` is the port of the cluster's
            address, by default a free one.

    Returns:
        a context manager; it gives the URL once all models are available or sleep.

    Raises:
        RuntimeError: it did not start; `log` says why.
    """
    return running(config, log, environment, program=__name__)


@contextmanager
def _cluster() -> Iterator[None]:
    """A cluster with the head alone, to which this process is connected."""
    os.environ.update(SETTINGS | os.environ)
    port = int(os.environ.get("RAY_GCS_SERVER_PORT", free_port()))
    temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with temporary as folder:
        # Also where `Cluster` notes its address, which other programs would connect to.
        os.environ["RAY_TMPDIR"] = folder
        file = Path(folder) / "autoscaler.json"  # JSON is YAML
        file.write_text(json.dumps(_autoscaler(f"{node_address()}:{port}")))
        head = {
            "num_cpus": _HEAD_CPUS,
            "gcs_server_port": port,
            "autoscaling_config": str(file),
            "include_dashboard": False,
            "env_vars": _OF_HEAD,
        }
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            ray.init(cluster.address, log_to_driver=False)
            # Ray replaces the handler for SIGTERM with one that aborts the process.
            interrupt_on_signals()
            yield
        finally:
            # An interrupted shutdown would leave processes behind.
            for number in ending_signals():
                signal.signal(number, signal.SIG_IGN)
            # The other nodes belong to the autoscaler, and would survive it.
            started = psutil.Process().children(recursive=True)
            ray.shutdown()
            cluster.shutdown()  # type: ignore[no-untyped-call]
            _, left = psutil.wait_procs(started, _STOP_S)
            for process in left:
                process.kill()
            psutil.wait_procs(left, _STOP_S)


def _autoscaler(address: str) -> dict[str, Any]:
    """The autoscaler's configuration.

    Source: https://docs.ray.io/en/latest/cluster/vms/references/ray-cluster-configuration.html
    """
    # Small, since a node's share of the memory is taken from this machine's.
    resources = {**NODE, "object_store_memory": 100 * 2**20}
    return {
        "cluster_name": "growing",
        # By its class, since Ray's wheel lacks the defaults that `type: fake_multinode` reads.
        "provider": {
            "type": "external",
            "module": FAKE_NODES,
            "gcs_address": address,
            "head_node_id": FAKE_HEAD,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "max_workers": MAX_NODES,
        "idle_timeout_minutes": IDLE_S / 60,
        **_UNUSED,
        "head_node_type": _HEAD,
        "available_node_types": {
            _HEAD: {"resources": {"CPU": _HEAD_CPUS}, "node_config": {}, "max_workers": 0},
            "gpus": {
                "resources": resources,
                "node_config": {},
                "min_workers": 0,
                "max_workers": MAX_NODES,
            },
        },
    }


def main() -> None:
    """`python -m ops.load.cluster --config FILE --port PORT`: serves it until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m ops.load.cluster", description=__doc__)
    parser.add_argument("--config", required=True, help="a YAML file with `llms:`")
    parser.add_argument("--port", type=int, default=8000, help="default: %(default)s")
    args = parser.parse_args()
    from serve.app import build  # late, since it takes seconds

    interrupt_on_signals()
    try:
        with _cluster():
            http = {"host": LOOPBACK, "port": args.port}
            rayserve.start(proxy_location="HeadOnly", http_options=http)
            rayserve.run(build({"config": args.config}), name=APPLICATION)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
