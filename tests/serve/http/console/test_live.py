"""Promise: the console shows what all routers do, to each caller only what it may see, and no text
of a prompt unless the operator wants it."""

import asyncio
import json
from collections.abc import Awaitable
from random import Random
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import ray
from clocks import Clock
from ray import serve as rayserve
from scripted_models import END, Models, api_client, says

from deployments.errors import ProviderError, RateLimited
from deployments.telemetry.instruments import OPEN_CIRCUITS, REGISTRY
from deployments.telemetry.samples import Samples, Series, samples_of
from serve.access.keys import hash_of, new_key
from serve.actors import ActorClient, ActorUnavailable
from serve.config import RouterConfig
from serve.http.console import records
from serve.http.server import Server
from serve.routing.prices import Price
from serve.strategies import STRATEGIES
from serve.telemetry import cluster, view
from serve.telemetry.live import Live, Report

OPERATORS, TEAMS, OTHERS = new_key(), new_key(), new_key()
KEYS: dict[str, Any] = {
    "allow_anonymous": False,
    "console": True,
    "keys": [
        {"name": "operator", "sha256": hash_of(OPERATORS).hex(), "metrics": True},
        {"name": "team", "sha256": hash_of(TEAMS).hex(), "models": ["a"]},
        {"name": "other", "sha256": hash_of(OTHERS).hex()},
    ],
}
SECRET = "the text of a prompt"
PATH = "/v1/chat/completions"


def body(model: str = "auto", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": SECRET}], **more}


class Cluster:
    """The parts of Ray that the console asks: the actor, and the controller."""

    def __init__(self) -> None:
        self.clock = Clock(1_000_000.0)
        self.actor = Live(self.clock)
        self.away = False
        self.servers: list[Server] = []

    def call(self, method: str, *args: Any) -> Awaitable[Any]:
        if self.away:
            raise ActorUnavailable("the actor is being created")
        assert method == "live"
        return asyncio.sleep(0, self.actor.read(*args))

    def report(self, seconds: float = 0.0) -> None:
        """All routers report, and time passes."""
        samples = samples_of(REGISTRY)
        samples.pop(OPEN_CIRCUITS.name, None)  # of other tests' models
        for number, server in enumerate(self.servers):
            self.actor.push(f"Router#{number}", samples, server.view.report())
        self.clock.now += seconds

    def details(self, application: str) -> dict[str, Any]:
        running = {"state": "RUNNING", "replica_id": "1"}
        deployment = {"status": "HEALTHY", "message": "", "target_num_replicas": 2}
        return {"deployments": {"a": {**deployment, "replicas": [running]}}}


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    parts = Cluster()
    context = SimpleNamespace(app_name="llms", deployment="Router", replica_tag="1")
    monkeypatch.setattr(rayserve, "get_replica_context", lambda: context)
    monkeypatch.setattr(ActorClient, "call", lambda client, *args: parts.call(*args))
    monkeypatch.setattr(cluster, "application_details", parts.details)
    monkeypatch.setattr(ray, "nodes", list)
    monkeypatch.setattr(view, "_FRESH_S", -1.0)
    attach = Server.attach

    def attached(server: Server, api: Any) -> None:
        parts.servers.append(server)
        attach(server, api)

    monkeypatch.setattr(Server, "attach", attached)
    return parts


async def client(models: Models, **config: Any) -> httpx.AsyncClient:
    core = await models.core(prices=dict.fromkeys(models.scripts, Price(1, 1)))
    return api_client(core, models, **{"allow_anonymous": False, **config})


def two_models() -> Models:
    return Models({"retries": 0}, a=[says("one ", "two", END)], b=[says(ProviderError("down"))])


async def live(http: httpx.AsyncClient, key: str = "", **query: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    reply = await http.get("/console/live", headers=headers, params=query)
    assert reply.status_code == 200, reply.text
    assert SECRET not in reply.text
    told: dict[str, Any] = reply.json()
    return told


async def test_it_shows_each_request_with_the_model_why_and_what_it_took(parts: Cluster) -> None:
    async with await client(two_models()) as http:
        await http.post(PATH, json=body("a"))
        answer = await http.post(PATH, json=body(models=["a", "b"], stream=True))
        await http.post(PATH, json=body("b"))
        await http.post(PATH, json=body("none"))
        await http.post(PATH, json={"model": "a"})
        await http.get("/v1/models")
        parts.report()
        told = await live(http)
    invalid, unknown, failed, streamed, whole = told["requests"]
    assert whole["reason"] == "named by the request"
    assert (whole["model"], whole["asked"], whole["strategy"]) == ("a", "a", "sequential")
    assert (whole["prompt_tokens"], whole["completion_tokens"], whole["cost"]) == (5, 3, 8)
    assert (whole["status"], whole["error"], whole["stream"]) == (200, None, False)
    assert whole["first_token_s"] is None
    assert whole["id"].startswith("chatcmpl-")
    assert (streamed["asked"], streamed["model"], streamed["stream"]) == ("auto", "a", True)
    assert 0 <= streamed["first_token_s"] <= streamed["seconds"]
    assert streamed["id"] in answer.text
    assert (failed["status"], failed["error"], failed["model"]) == (502, "provider_error", None)
    assert (unknown["error"], unknown["asked"]) == ("model_not_found", None)
    assert (invalid["status"], invalid["path"]) == (400, PATH)


async def test_it_shows_each_models_traffic_and_state(parts: Cluster) -> None:
    models = two_models()
    async with await client(models) as http:
        parts.report(10)
        for _ in range(4):
            await http.post(PATH, json=body("a", stream=True))
        await http.post(PATH, json=body("b"))
        parts.report(3)
        told = await live(http)
    a, b = told["models"]
    assert a["now"]["requests_per_s"] == pytest.approx(0.4)
    assert a["now"]["output_tokens_per_s"] == pytest.approx(1.2)
    assert a["now"]["usd_per_s"] == pytest.approx(3.2)
    assert a["now"]["errors_per_s"] == 0
    assert 0 < a["now"]["first_token_s"]["p50"] <= a["now"]["duration_s"]["p90"]
    assert b["now"]["errors_per_s"] == pytest.approx(0.1)
    assert b["now"]["duration_s"] == {"p50": None, "p90": None}
    assert a["replicas"] == {"running": 1, "starting": 0, "wanted": 2}
    assert (a["available"], a["status"], a["circuit"], a["queued"]) == (
        True,
        "available",
        "closed",
        0,
    )
    past = told["history"]
    assert past["seconds_per_point"] == 2
    assert len(past["times"]) == len(past["models"]["a"]["requests_per_s"]) == 5
    assert 2 * sum(past["models"]["a"]["requests_per_s"]) == pytest.approx(4)
    assert told["routers"] == 1


async def test_a_circuit_is_open_if_it_is_in_any_router(parts: Cluster) -> None:
    models = two_models()
    async with await client(models) as http:
        for _ in range(10):
            models.circuits.failed("a", ProviderError("down"))
        assert [each["circuit"] for each in (await live(http))["models"]] == ["open", "closed"]
        elsewhere: Samples = {OPEN_CIRCUITS.name: {(OPEN_CIRCUITS.name, (("model", "b"),)): 1.0}}
        parts.actor.push("Router#7", elsewhere, Report({}, []))
        assert [each["circuit"] for each in (await live(http))["models"]] == ["open", "open"]
        parts.clock.now += 60
        assert [each["circuit"] for each in (await live(http))["models"]] == ["open", "closed"]


async def test_a_key_sees_its_own_requests_and_models_and_an_operators_all(
    parts: Cluster,
) -> None:
    async with await client(two_models(), **KEYS) as http:
        parts.report(2)
        for key, model in ((TEAMS, "a"), (OTHERS, "a"), (OTHERS, "b")):
            headers = {"authorization": f"Bearer {key}"}
            await http.post(PATH, json=body(model), headers=headers)
        parts.report(4)
        team, other, operator = [await live(http, key) for key in (TEAMS, OTHERS, OPERATORS)]
        refused = await http.get("/console/live")
    assert refused.status_code == 401
    assert [each["key"] for each in team["requests"]] == ["team"]
    assert [each["key"] for each in other["requests"]] == ["other", "other"]
    assert [each["key"] for each in operator["requests"]] == ["other", "other", "team"]
    assert team["caller"] == {"name": "team", "all_traffic": False}
    assert operator["caller"] == {"name": "operator", "all_traffic": True}
    assert [model["name"] for model in team["models"]] == ["a"]
    assert [model["name"] for model in operator["models"]] == ["a", "b"]
    assert team["models"][0]["in_flight"] is None
    assert team["models"][0]["now"]["requests_per_s"] == pytest.approx(0.1)
    assert other["models"][0]["now"]["requests_per_s"] == pytest.approx(0.1)
    for key in (OPERATORS, TEAMS, OTHERS):
        assert key not in json.dumps([team, other, operator])


async def test_requests_of_one_millisecond_are_shown_newest_first_too(
    parts: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "time", SimpleNamespace(time=lambda: 1_000_000.0))
    async with await client(two_models()) as http:
        for model in ("a", "b", "none"):
            await http.post(PATH, json=body(model))
        parts.report()
        told = await live(http)
    assert [each["status"] for each in told["requests"]] == [404, 502, 200]


async def test_a_cursor_gives_what_is_newer_also_after_the_actor_was_replaced(
    parts: Cluster,
) -> None:
    async with await client(two_models()) as http:
        await http.post(PATH, json=body("a"))
        parts.report()
        first = await live(http)
        assert len(first["requests"]) == 1
        await http.post(PATH, json=body("a"))
        parts.report()
        second = await live(http, after=first["cursor"])
        assert len(second["requests"]) == 1
        assert second["requests"][0]["id"] != first["requests"][0]["id"]
        assert (await live(http, after=second["cursor"]))["requests"] == []
        parts.actor = Live(parts.clock)
        parts.report()
        again = await live(http, after=second["cursor"])
        assert len(again["requests"]) == 2
        assert len((await live(http, after="made.up"))["requests"]) == 2


async def test_while_the_actor_is_away_this_routers_own_requests_are_shown(
    parts: Cluster,
) -> None:
    parts.away = True
    async with await client(two_models()) as http:
        await http.post(PATH, json=body("a"))
        told = await live(http)
        assert not told["all_routers"]
        assert [each["model"] for each in told["requests"]] == ["a"]
        assert [model["name"] for model in told["models"]] == ["a", "b"]
        parts.away = False
        parts.report()
        assert (await live(http))["all_routers"]


async def test_a_prompts_text_is_shown_only_while_the_operator_wants_it(parts: Cluster) -> None:
    models = two_models()
    core = await models.core_with(STRATEGIES, RouterConfig(show_queries=True))
    async with api_client(core, models, allow_anonymous=False) as http:
        await http.post(PATH, json=body("a"))
        parts.report()
        reply = (await http.get("/console/live")).json()
        assert reply["shows_queries"]
        assert [each["query"] for each in reply["requests"]] == [SECRET]
        await core.configure(RouterConfig(), {})
        assert [each["query"] for each in (await live(http))["requests"]] == [None]


async def test_polls_take_nothing_from_a_keys_limit_but_what_a_limit_refuses_is_shown(
    parts: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str | None] = []

    async def count(caller: Any) -> None:
        counted.append(caller.name)
        raise RateLimited("enough")

    monkeypatch.setattr("scripted_models.unlimited", count)
    async with await client(two_models(), **KEYS) as http:
        await live(http, TEAMS)
        assert counted == []
        await http.post(PATH, json=body("a"), headers={"authorization": f"Bearer {TEAMS}"})
        parts.report()
        told = await live(http, TEAMS)
    assert counted == ["team"]
    assert [(each["status"], each["key"]) for each in told["requests"]] == [(429, "team")]


async def test_with_a_thousand_models_a_reply_stays_below_two_megabytes(parts: Cluster) -> None:
    names = [f"provider/a-model-with-a-long-name-{number}" for number in range(1000)]
    models = Models(None, **{name: [says("one", END)] for name in names})
    random = Random(0)
    counts = dict.fromkeys(names, 0.0)
    async with await client(models) as http:
        for _ in range(25):  # ten minutes: what was counted between two reports is spread evenly
            counts = {name: count + random.uniform(100, 200) for name, count in counts.items()}
            series: dict[Series, float] = {
                ("llm_attempts_total", (("model", name), ("outcome", "answered"))): count
                for name, count in counts.items()
            }
            parts.actor.push(
                "Router#0", {"llm_attempts": series}, Report(dict.fromkeys(names, 7), [])
            )
            parts.clock.now += 29
        reply = await http.get("/console/live")
    told = reply.json()
    assert len(told["models"]) == 1000
    assert len(told["history"]["models"]) == 100
    assert 290 <= len(told["history"]["times"]) <= 300
    assert len(reply.content) < 2_000_000
