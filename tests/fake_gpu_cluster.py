"""A Ray cluster of several nodes with GPUs that aren't there, the application on it: a program.

Its argument is JSON: `port`, `nodes` (by name, what `Cluster.add_node` takes) and `models`. It then
answers each line of its input by one line of JSON, and ends with everything that it started when
its input does: also when whoever started it is killed.
"""

import json
import os
import sys
import tempfile
from typing import Any

import ray
from ray import serve as rayserve
from ray.cluster_utils import Cluster

from serve.app import build


def main() -> None:
    """`python fake_gpu_cluster.py JSON`."""
    given = json.loads(sys.argv[1])
    # Whatever else is written, by libraries or by Ray, is none of our answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    here = os.path.dirname(__file__)
    os.environ |= {
        "RAYLLM_VLLM_ENGINE_CLS": "fake_engine.Engine",
        "PYTHONPATH": os.pathsep.join([here, os.path.dirname(here)]),
    }
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        head = {"num_cpus": 4, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            names = {cluster.head_node.node_id: "head"}

            def add(nodes: dict[str, Any]) -> None:
                for name, node in nodes.items():
                    names[cluster.add_node(**node).node_id] = name

            add(given["nodes"])
            ray.init(cluster.address, log_to_driver=False)
            http = {"host": "127.0.0.1", "port": given["port"]}
            rayserve.start(proxy_location="HeadOnly", http_options=http)
            app = build({"llms": {"models": given["models"]}})
            rayserve.run_many([rayserve.RunTarget(app)], wait_for_applications_running=False)
            for line in sys.stdin:
                if nodes := json.loads(line):
                    add(nodes)
                print(json.dumps(look(names)), file=answers, flush=True)
        finally:
            ray.shutdown()
            cluster.shutdown()


def look(names: dict[str, str]) -> dict[str, Any]:
    """What Ray Serve says of the deployments, and where Ray has placed their replicas."""
    (app,) = rayserve.status().applications.values()
    groups = ray.util.placement_group_table().values()
    return {
        "status": {
            name: [deployment.status, deployment.message]
            for name, deployment in app.deployments.items()
        },
        "groups": list(groups),
        "names": names,
    }


if __name__ == "__main__":
    main()
