"""A program that serves the application on several Ray nodes whose GPUs exist only on paper.

Its argument is JSON: `port`, `models`, and `nodes`, the arguments of `Cluster.add_node` by name.
Each line of input adds nodes, or none, and is answered by a line with the result of `look`. At the
end of its input, also when its parent is killed, it ends with everything it started.
"""

import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import serve as rayserve
from ray.cluster_utils import Cluster
from ray.serve._private.common import ReplicaID
from ray.util import placement_group_table

from serve.app import build

HERE = Path(__file__).parent


def main() -> None:
    """`python fake_gpu_cluster.py JSON`."""
    given = json.loads(sys.argv[1])
    # What libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ |= {
        "PYTHONPATH": f"{HERE}{os.pathsep}{HERE.parents[1]}",
        "RAYLLM_VLLM_ENGINE_CLS": "fake_engine.Engine",
        "RAY_SERVE_SLOW_STARTUP_WARNING_S": "3",
        "RAY_SERVE_SLOW_STARTUP_WARNING_PERIOD_S": "3",
    }
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        head = {"num_cpus": 4, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        names: dict[str, str] = {}
        try:
            _add(cluster, given["nodes"], names)
            # Before `build`, which uses Ray to place engines, and would start one by itself.
            ray.init(cluster.address, log_to_driver=False)
            http = {"host": "127.0.0.1", "port": given["port"]}
            rayserve.start(proxy_location="HeadOnly", http_options=http)
            app = rayserve.RunTarget(build({"llms": {"models": given["models"]}}))
            rayserve.run_many([app], wait_for_applications_running=False)
            for line in sys.stdin:
                _add(cluster, json.loads(line), names)
                print(json.dumps(look(names)), file=answers, flush=True)
        finally:
            ray.shutdown()
            cluster.shutdown()  # type: ignore[no-untyped-call]


def _add(cluster: Cluster, nodes: Mapping[str, Any], names: dict[str, str]) -> None:
    for name, node in nodes.items():
        names[cluster.add_node(**node).node_id] = name


def look(names: Mapping[str, str]) -> dict[str, Any]:
    """Ray Serve's `messages` for each deployment; and `placed`, the bundles on each node for each
    replica that has its placement group."""
    (app,) = rayserve.status().applications.values()
    placed = defaultdict(list)
    for group in placement_group_table().values():
        if group["state"] == "CREATED":
            bundles = defaultdict(list)
            for index, node in group["bundles_to_node_id"].items():
                bundles[names[node]].append(group["bundles"][index])
            replica = ReplicaID.from_full_id_str(group["name"])
            placed[replica.deployment_id.name].append(bundles)
    messages = {name: deployment.message for name, deployment in app.deployments.items()}
    return {"messages": messages, "placed": placed}


if __name__ == "__main__":
    main()
