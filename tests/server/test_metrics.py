"""Promise: one scrape of a running server shows what all of its replicas did."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from serve_fixtures import Server, kill_actor

BODY = {"messages": [{"role": "user", "content": "What is 7 plus 5?"}], "temperature": 0}


class Scrape:
    """The samples of one scrape."""

    def __init__(self, server: Server) -> None:
        reply = httpx.get(f"{server.url}/metrics", timeout=20)
        assert reply.status_code == 200, reply.text
        assert "7 plus 5" not in reply.text
        families = text_string_to_metric_families(reply.text)
        self._samples = [sample for family in families for sample in family.samples]

    def named(self, name: str, **labels: str) -> Iterator[Sample]:
        """The samples of a name with these labels."""
        for sample in self._samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample

    def sum(self, name: str, **labels: str) -> float:
        """Over all replicas."""
        return sum(sample.value for sample in self.named(name, **labels))

    def replicas(self, name: str, **labels: str) -> set[str]:
        """Those with any such sample."""
        return {sample.labels["replica"] for sample in self.named(name, **labels)}


def ask(server: Server, **body: Any) -> httpx.Response:
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=BODY | body, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply


def is_idle(deployment: str, scrape: Scrape) -> bool:
    return (
        bool(scrape.replicas("llm_requests_in_flight", deployment=deployment))
        and scrape.sum("llm_requests_in_flight", deployment=deployment) == 0
    )


def is_complete(scrape: Scrape) -> bool:
    return scrape.sum("llm_metrics_complete", part="replicas") == 1


def wait_until(server: Server, holds: Callable[[Scrape], bool]) -> Scrape:
    deadline = time.monotonic() + 30
    while not holds(scrape := Scrape(server)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return scrape


def test_questions_show_in_a_scrape_whichever_router_answered_them(every_kind: Server) -> None:
    calls = "gen_ai_client_operation_duration_seconds_count"
    large = {"gen_ai_request_model": "demo-large", "error_type": ""}
    before = Scrape(every_kind).sum(calls, **large)
    with ThreadPoolExecutor(8) as pool:
        for reply in [
            pool.submit(ask, every_kind, model="demo-large", stream=True) for _ in range(32)
        ]:
            reply.result()
    scrape = wait_until(every_kind, lambda now: now.sum(calls, **large) >= before + 32)
    routers = scrape.replicas(calls, **large)
    assert len(routers) == 2
    assert all(router.startswith("Router#") for router in routers)
    first = "gen_ai_client_operation_time_to_first_chunk_seconds_count"
    assert scrape.sum(first, gen_ai_request_model="demo-large") >= 32
    assert scrape.sum("llm_attempts_total", model="demo-large", outcome="answered") >= 32
    named = {"model": "demo-large", "strategy": "sequential", "reason": "named"}
    assert scrape.sum("llm_choices_total", **named) >= 32
    served = "gen_ai_server_time_to_first_token_seconds_count"
    (replica,) = wait_until(
        every_kind, lambda now: now.sum(served, gen_ai_request_model="demo-large") >= 32
    ).replicas(served, gen_ai_request_model="demo-large")
    assert replica.startswith("demo-large#")


def test_models_that_share_a_replica_show_there(every_kind: Server) -> None:
    ask(every_kind, model="hosted")
    name = "gen_ai_server_request_duration_seconds_count"
    scrape = wait_until(every_kind, lambda now: now.sum(name, gen_ai_request_model="hosted") >= 1)
    (replica,) = scrape.replicas(name, gen_ai_request_model="hosted")
    assert replica.startswith("LiteLLM#")


def test_a_scrape_shows_replicas_and_nodes_and_that_nothing_is_in_progress(
    every_kind: Server,
) -> None:
    scrape = Scrape(every_kind)
    counts = {
        sample.labels["state"]: sample.value
        for sample in scrape.named("llm_replicas", deployment="Router")
    }
    assert counts == {"wanted": 2, "running": 2, "starting": 0, "stopping": 0}
    assert scrape.sum("llm_replicas", deployment="sleeper", state="wanted") in (0, 1)
    assert scrape.sum("llm_nodes", state="alive") == 1
    for deployment in ("Router", "demo-large"):
        wait_until(every_kind, partial(is_idle, deployment))


def test_what_was_counted_outlives_the_actor(every_kind: Server) -> None:
    ask(every_kind, model="demo-small")
    answered = {"model": "demo-small", "outcome": "answered"}
    before = wait_until(every_kind, lambda now: now.sum("llm_attempts_total", **answered) >= 1)
    count = before.sum("llm_attempts_total", **answered)
    wait_until(every_kind, is_complete)
    kill_actor("llms", "telemetry")
    # Scrapes are answered all the same.
    wait_until(every_kind, lambda now: not is_complete(now))
    wait_until(
        every_kind,
        lambda now: (
            is_complete(now)
            and len(now.replicas("llm_attempts_total")) == 2
            and now.sum("llm_attempts_total", **answered) >= count
        ),
    )
