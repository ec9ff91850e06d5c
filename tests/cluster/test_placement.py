"""Promise: an engine gets its GPUs, also across nodes; a model without room says what is missing.

The GPUs exist only in Ray's accounting, and a fake engine that needs none replaces vLLM's.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import psutil
import pytest
from serve_fixtures import DEMO_MODELS, Server, in_repository

from ops.ports import free_port

PATIENCE_S = 200


def engine(name: str, **keys: object) -> dict[str, object]:
    return {"name": name, "backend": "vllm", "model": "nobody/none", **keys}


def node(gpus: int, kind: str) -> dict[str, object]:
    return {"num_cpus": 4, "num_gpus": gpus, "resources": {f"accelerator_type:{kind}": 1}}


# The large model needs both A10G nodes, and the second one joins late.
NODES = {"first": node(4, "A10G"), "hopper": node(2, "H100")}
SECOND = {"second": node(4, "A10G")}
MODELS = [
    engine("large", engine={"tensor_parallel_size": 4, "pipeline_parallel_size": 2}),
    engine("one", accelerator_type="H100"),
    engine(
        "half",
        gpus=0.5,
        accelerator_type="H100",
        autoscaling={"min_replicas": 2, "max_replicas": 2},
    ),
    engine("too-large", gpus=16),
    engine("exotic", accelerator_type="A100"),
    {
        "name": "torch",
        "backend": "huggingface",
        "model": str(DEMO_MODELS / "demo-small"),
        "gpus": 7,
    },
]
FIT = {"one", "half"}


class Cluster:
    """The `fake_gpu_cluster.py` program and the application that it serves."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self._process = process
        self.url = url

    def look(self, **nodes: object) -> dict[str, Any]:
        """Adds nodes, and reports the state; see `fake_gpu_cluster.look`."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps(nodes), file=self._process.stdin, flush=True)
        facts: dict[str, Any] = json.loads(self._process.stdout.readline())
        return facts

    def health(self) -> dict[str, Any]:
        """Each model's status in /health/ready; empty while the server doesn't respond."""
        try:
            models: dict[str, Any] = httpx.get(f"{self.url}/health/ready").json()["models"]
        except (httpx.HTTPError, ValueError, KeyError):
            return {}
        return models

    def running(self) -> set[str]:
        """The available models."""
        return {name for name, model in self.health().items() if model["available"]}

    def chat(self, model: str, **more: Any) -> Any:
        """A model's answer, through OpenAI's client."""
        ask = Server(self.url).client().chat.completions.create
        return ask(model=model, messages=[{"role": "user", "content": "Are you there?"}], **more)


def wait_until(
    holds: Callable[[], bool], otherwise: Callable[[], object], patience_s: float = PATIENCE_S
) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.3)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """All nodes but one, once the models that fit run."""
    port = free_port()
    given = {"port": port, "nodes": NODES, "models": MODELS}
    log = tmp_path_factory.mktemp("cluster") / "log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, in_repository("tests/support/fake_gpu_cluster.py"), json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    cluster = Cluster(process, f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: cluster.running() == FIT, lambda: (cluster.health(), log.read_text()))
        yield cluster
        started = psutil.Process(process.pid).children(recursive=True)
    finally:
        assert process.stdin
        process.stdin.close()
        try:
            process.wait(60)
        finally:
            process.kill()
    _, left = psutil.wait_procs(started, timeout=20)
    assert not left


@pytest.fixture(scope="module")
def messages(cluster: Cluster) -> dict[str, str]:
    """Ray Serve's messages about the deployments while the second node is missing."""
    facts: dict[str, Any] = {}

    def said() -> bool:
        facts.update(cluster.look())
        return all(facts["messages"][name] for name in ("large", "too-large", "exotic", "torch"))

    wait_until(said, lambda: facts)
    told: dict[str, str] = facts["messages"]
    return told


@pytest.fixture(scope="module")
def placed(cluster: Cluster, messages: dict[str, str]) -> dict[str, Any]:
    """The replicas' nodes once the second node has joined, after the tests that run without it."""
    cluster.look(**SECOND)
    wait_until(lambda: "large" in cluster.running(), cluster.health)
    bundles: dict[str, Any] = cluster.look()["placed"]
    return bundles


@pytest.mark.parametrize(
    ("model", "missing"),
    [
        ("large", "GPU 8 (the cluster has 6, 4 of it free)"),
        ("too-large", "GPU 16 (the cluster has 6, 4 of it free)"),
        ("exotic", "accelerator_type:A100 0.001 (the cluster has 0, 0 of it free)"),
        ("torch", "GPU 7 (the cluster has 6, 4 of it free)"),
    ],
)
def test_readiness_says_within_a_minute_what_a_model_lacks(
    cluster: Cluster, model: str, missing: str
) -> None:
    # Ray's count of free resources lags a moment behind.
    wait_until(lambda: missing in cluster.health()[model]["message"], cluster.health, 60)


def test_ray_serves_status_lists_the_required_resources(
    cluster: Cluster, messages: dict[str, str]
) -> None:
    needed = "Resources required for each replica: "
    assert messages["large"].count('"GPU": 1.0') == 8
    for model in ("large", "too-large", "exotic"):
        assert needed in messages[model]
    assert '"accelerator_type:A100": 0.001' in messages["exotic"]
    assert needed + '{"CPU": 0.5, "GPU": 7.0}' in messages["torch"]


def test_models_that_fit_answer_while_others_wait_for_room(cluster: Cluster) -> None:
    health = httpx.get(f"{cluster.url}/health/ready")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert cluster.chat("one").choices[0].message.content == "one is here"
    with pytest.raises(openai.InternalServerError) as refused:
        cluster.chat("too-large")
    assert refused.value.status_code == 503
    assert refused.value.code == "model_unavailable"
    assert "too-large; see /health/ready" in refused.value.message


def test_an_engine_of_eight_gpus_is_placed_on_two_nodes_of_four(placed: dict[str, Any]) -> None:
    (replica,) = placed["large"]
    assert {name: [b["GPU"] for b in bundles] for name, bundles in replica.items()} == {
        "first": [1] * 4,
        "second": [1] * 4,
    }


def test_an_engine_on_two_nodes_answers(cluster: Cluster, placed: dict[str, Any]) -> None:
    assert cluster.health()["large"] == {
        "available": True,
        "status": "HEALTHY",
        "replicas": 1,
        "message": "",
    }
    whole = cluster.chat("large")
    assert whole.choices[0].message.content == "large is here"
    assert whole.usage.total_tokens == 7
    pieces = [chunk.choices[0].delta.content or "" for chunk in cluster.chat("large", stream=True)]
    assert "".join(pieces) == "large is here"


def test_an_engine_is_placed_where_its_accelerator_is(placed: dict[str, Any]) -> None:
    (replica,) = placed["one"]
    assert set(replica) == {"hopper"}


def test_two_replicas_share_one_gpu(placed: dict[str, Any]) -> None:
    # The node's other GPU is taken.
    assert [[b["GPU"] for b in replica["hopper"]] for replica in placed["half"]] == [[0.5], [0.5]]
