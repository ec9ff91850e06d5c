"""Promise: what an AIOS agent has selected holds on all router replicas."""

import time
from collections.abc import Iterator

import httpx
import pytest
from ray import serve as rayserve
from serve_fixtures import Server, kill_actor

from serve.app import build

QUERY = {
    "query_type": "llm",
    "agent_name": "agent",
    "query_data": {"messages": [{"role": "user", "content": "What is 7 plus 5?"}]},
}
# Each request has a connection of its own, so several of them reach both replicas.
MANY = 12


@pytest.fixture(scope="module")
def url(ray_cluster: str) -> Iterator[str]:
    """Two router replicas in front of two models."""
    two = {"min_replicas": 2, "max_replicas": 2}
    models = [{"name": name, "backend": "simulated"} for name in ("one", "other")]
    config = {"llms": {"models": models}, "server": {"autoscaling": two}}
    rayserve.run(build(config), name="aios", route_prefix="/aios")
    server = Server(f"{ray_cluster}/aios")
    server.wait_until("ready", patience_s=120)
    yield server.url
    rayserve.delete("aios")


def answering(url: str) -> set[str]:
    """The models that answer many queries."""
    replies = [httpx.post(f"{url}/query", json=QUERY, timeout=60) for _ in range(MANY)]
    assert {reply.json()["response"]["status_code"] for reply in replies} == {200}
    return {reply.headers["x-router-model"] for reply in replies}


def test_a_selection_holds_on_all_replicas_until_its_actor_is_replaced(url: str) -> None:
    assert answering(url) == {"one", "other"}
    selected = httpx.post(f"{url}/user/select/llms", json=[{"name": "other"}], timeout=60)
    assert selected.json()["status"] == "success"
    assert answering(url) == {"other"}
    kill_actor("aios", "selections")
    deadline = time.monotonic() + 60
    while httpx.get(f"{url}/user/selected/llms", timeout=60).json()["llms"]:
        assert time.monotonic() < deadline, "the actor is not replaced"
        time.sleep(0.2)
    assert answering(url) == {"one", "other"}
