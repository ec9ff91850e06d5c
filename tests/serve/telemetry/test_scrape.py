"""Promise: a scrape has all there is, says what is missing, and waits for nothing for long."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray import serve as rayserve

from deployments.telemetry.instruments import ATTEMPTS
from serve.actors import ActorClient, ActorUnavailable
from serve.telemetry import cluster, scrape
from serve.telemetry.scrape import Scrapes

RUNNING, STARTING, STOPPING = "RUNNING", "STARTING", "STOPPING"


def deployment(wanted: int, *states: str) -> dict[str, Any]:
    """What Ray Serve's controller says of a deployment."""
    replicas = [{"state": state, "replica_id": str(n)} for n, state in enumerate(states, 1)]
    return {
        "status": "UPDATING",
        "message": "",
        "target_num_replicas": wanted,
        "replicas": replicas,
    }


class Ray:
    """The parts of Ray that a scrape asks; there are none without a cluster."""

    def __init__(self) -> None:
        self.asked = 0
        self.text: bytes | None = b'llm_attempts_total{replica="Router#2"} 7.0\n'
        self.heard = frozenset({"Router#2", "m#1"})
        self.deployments = {"m": deployment(3, RUNNING, STARTING, STOPPING, STOPPING)}
        self.answers = threading.Event()
        self.answers.set()

    def call(self, client: ActorClient, method: str) -> Awaitable[tuple[bytes, frozenset[str]]]:
        self.asked += 1
        if self.text is None:
            raise ActorUnavailable("the actor is being created")
        return asyncio.sleep(0, (self.text, self.heard))

    def details(self, application: str) -> dict[str, Any]:
        self.answers.wait(20)
        return {"deployments": self.deployments}


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Ray:
    parts = Ray()
    context = SimpleNamespace(app_name="llms", deployment="Router", replica_tag="1")
    monkeypatch.setattr(rayserve, "get_replica_context", lambda: context)
    monkeypatch.setattr(ActorClient, "call", lambda client, method: parts.call(client, method))
    monkeypatch.setattr(cluster, "application_details", parts.details)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}, {"Alive": False}, {"Alive": True}])
    return parts


async def scraped(scrapes: Scrapes) -> Callable[..., float | None]:
    """Reads the value of a series."""
    values = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families((await scrapes.text()).decode())
        for sample in family.samples
    }
    return lambda name, **labels: values.get((name, tuple(sorted(labels.items()))))


async def test_it_has_the_samples_of_all_replicas_and_what_ray_knows(parts: Ray) -> None:
    value = await scraped(Scrapes())
    assert value("llm_attempts_total", replica="Router#2") == 7
    counts = {state: value("llm_replicas", deployment="m", state=state) for state in cluster.STATES}
    assert counts == {"wanted": 3, "running": 1, "starting": 1, "stopping": 2}
    assert value("llm_nodes", state="alive") == 2
    assert value("llm_metrics_complete", part="replicas") == 1
    assert value("llm_metrics_complete", part="cluster") == 1


async def test_it_isnt_complete_until_all_running_replicas_have_reported(parts: Ray) -> None:
    parts.deployments["m"] = deployment(2, RUNNING, RUNNING)
    parts.deployments["Embedder"] = deployment(1, RUNNING)  # it has no metrics
    value = await scraped(Scrapes())
    assert value("llm_metrics_complete", part="replicas") == 0
    parts.heard |= {"m#2"}
    value = await scraped(Scrapes())
    assert value("llm_metrics_complete", part="replicas") == 1


async def test_while_the_actor_is_away_it_has_this_routers_samples_and_says_so(parts: Ray) -> None:
    ATTEMPTS.labels("scraped", "answered").inc()
    parts.text = None
    value = await scraped(Scrapes())
    own = {"model": "scraped", "outcome": "answered", "replica": "Router#1"}
    assert value("llm_attempts_total", **own) == 1
    assert value("llm_metrics_complete", part="replicas") == 0
    assert value("llm_metrics_complete", part="cluster") == 1


async def test_a_controller_that_doesnt_answer_holds_up_no_scrape_for_long(
    parts: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "_TIMEOUT_S", 0.05)
    monkeypatch.setattr(scrape, "_FRESH_S", 0.0)
    parts.answers.clear()
    scrapes = Scrapes()
    for _ in range(2):
        value = await scraped(scrapes)
        assert value("llm_attempts_total", replica="Router#2") == 7
        assert value("llm_metrics_complete", part="cluster") == 0
        assert value("llm_metrics_complete", part="replicas") == 0, "nobody knows which there are"
    parts.answers.set()
    monkeypatch.setattr(scrape, "_TIMEOUT_S", 20)
    value = await scraped(scrapes)
    assert value("llm_metrics_complete", part="cluster") == 1


async def test_however_many_ask_at_once_ray_is_asked_once(parts: Ray) -> None:
    scrapes = Scrapes()
    texts = await asyncio.gather(*(scrapes.text() for _ in range(20)))
    assert len(set(texts)) == 1
    assert parts.asked == 1


async def test_of_a_thousand_deployments_half_are_shown_together(parts: Ray) -> None:
    parts.deployments = {f"m{number}": deployment(1, RUNNING) for number in range(1000)}
    value = await scraped(Scrapes())
    assert value("llm_replicas", deployment="m0", state="running") == 1
    assert value("llm_replicas", deployment="other", state="running") == 500
