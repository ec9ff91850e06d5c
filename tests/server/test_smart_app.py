"""Promise: smart routing, in a running server, learns from answers and gives its reasons."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from serve_fixtures import Server, kill_actor

from deployments.embedding.encoder import DEFAULT_MODEL, Encoder
from deployments.store.sql.database import Database

EASY, HARD = "What is the capital of France?", "What is 123 plus 456?"


def ask(server: Server, text: str, **more: Any) -> httpx.Response:
    body = {"model": "auto", "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def post(server: Server, path: str, body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, timeout=60)


def store(server: Server) -> dict[str, Any]:
    status: dict[str, Any] = httpx.get(f"{server.url}/health/ready", timeout=10).json()["store"]
    return status


def wait_for_more(server: Server, unscored: int) -> None:
    """Waits until an answer has reached the store."""
    deadline = time.monotonic() + 20
    while store(server)["unscored"] <= unscored:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def wait_until(check: Callable[[], bool]) -> None:
    """Waits for what each router does within seconds."""
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_easy_queries_go_to_the_cheap_model_hard_ones_to_the_expensive_one_and_headers_say_why(
    smart: Server,
) -> None:
    easy, hard = (ask(smart, text, router={"mode": "floor"}) for text in (EASY, HARD))
    assert easy.json()["model"] == "demo-small"
    assert hard.json()["model"] == "demo-large"
    assert hard.json()["choices"][0]["message"]["content"] == "579"
    assert easy.headers["x-router-strategy"] == "smart"
    assert "demo-small" in easy.headers["x-router-reason"]
    usage = hard.json()["usage"]
    usd = usage["prompt_tokens"] * 1e-7 + usage["completion_tokens"] * 4e-7
    assert float(hard.headers["x-router-cost"]) == pytest.approx(usd)


def test_a_request_may_choose_another_strategy_or_quality(smart: Server) -> None:
    turns = [ask(smart, HARD, router={"strategy": "sequential"}).json()["model"] for _ in range(4)]
    assert sorted(turns) == ["demo-large"] * 2 + ["demo-small"] * 2
    least = {"performance_requirement": 0.0, "mode": "floor"}
    assert ask(smart, HARD, router=least).json()["model"] == "demo-small"
    most = {"performance_requirement": 1.0, "mode": "floor"}
    assert ask(smart, HARD, router=most).json()["model"] == "demo-large"


def test_a_preview_says_what_a_chat_then_does(smart: Server) -> None:
    for text in (EASY, HARD, "Sort 52, 31, 90."):
        for router in ({}, {"mode": "floor"}, {"strategy": "sequential"}):
            asked = {"queries": [text], "as": "chat", "router": router}
            preview = post(smart, "/v1/route", asked).json()
            again = post(smart, "/v1/route", asked).json()
            assert again["data"][0]["model"] == preview["data"][0]["model"], "nothing has moved"
            assert ask(smart, text, router=router).json()["model"] == again["data"][0]["model"]
    (route,) = post(smart, "/v1/route", {"queries": [HARD], "as": "chat"}).json()["data"]
    assert len(route["neighbours"]) == 5
    assert route["candidates"][0]["model"] == route["model"]
    scores = [each["score"] for each in route["candidates"]]
    assert scores == sorted(scores)


def test_the_console_shows_what_all_routers_answered_and_what_quality_costs(smart: Server) -> None:
    ids = {ask(smart, EASY, model="demo-small").json()["id"] for _ in range(16)}
    ask(smart, HARD, model="no such model")

    def live() -> dict[str, Any]:
        told: dict[str, Any] = httpx.get(f"{smart.url}/console/live", timeout=20).json()
        return told

    def whole() -> bool:
        told = live()
        shown = {each["id"] for each in told["requests"]}
        rates = {each["name"]: each["now"]["requests_per_s"] for each in told["models"]}
        failed = "model_not_found" in {each["error"] for each in told["requests"]}
        return told["routers"] == 2 and ids <= shown and failed and (rates["demo-small"] or 0) > 0

    wait_until(whole)
    told = live()
    assert told["all_routers"]
    assert told["smart"]
    (small, large) = told["models"]
    assert (small["name"], small["replicas"]["running"]) == ("demo-small", 1)
    assert small["now"]["duration_s"]["p50"] > 0
    assert large["circuit"] == "closed"
    assert any(told["history"]["models"]["demo-small"]["output_tokens_per_s"])
    one = next(each for each in told["requests"] if each["id"] in ids)
    assert (one["model"], one["reason"]) == ("demo-small", "named by the request")
    assert one["query"] == EASY, "the server shows queries"
    curve = httpx.get(f"{smart.url}/console/tradeoff", timeout=30).json()
    costs = [point["usd_per_1000"] for point in curve["points"]]
    assert costs[0] < costs[-1]
    assert curve["best"]["name"] == "demo-large"
    assert curve["now"]["performance_requirement"] == 0.9
    assert curve["queries"] > 100
    assert httpx.get(smart.url + "/", timeout=20).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("stream", [False, True])
def test_every_answer_is_learned_from(smart: Server, stream: bool) -> None:
    query = f"Spell {stream} backwards."

    def known() -> bool:
        (route,) = post(smart, "/v1/route", {"queries": [query]}).json()["data"]
        nearest = route["neighbours"][0]
        return bool(nearest["query"] == query and nearest["similarity"] > 0.99)

    assert ask(smart, query, stream=stream).status_code == 200
    wait_until(known)


def test_feedback_changes_decisions_within_seconds_and_a_second_score_replaces_the_first(
    smart: Server,
) -> None:
    def wanted() -> str:
        router = {"mode": "floor", "performance_requirement": 0.6}
        return str(ask(smart, "What is the capital of Norway?", router=router).json()["model"])

    def small() -> str:
        answer = ask(smart, "What is the capital of Norway?", model="demo-small")
        return str(answer.json()["id"])

    assert wanted() == "demo-small"
    ids = [small() for _ in range(12)]
    for id in ids:
        given = post(smart, "/v1/feedback", {"id": id, "score": 0})
        assert given.status_code == 200, given.text
    wait_until(lambda: wanted() == "demo-large")
    for id in ids:
        post(smart, "/v1/feedback", {"id": id, "score": 1})
    wait_until(lambda: wanted() == "demo-small")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "chatcmpl-unknown", "score": 1}, 404),
        ({"id": "chatcmpl-unknown", "score": 1.5}, 400),
        ({"id": "chatcmpl-unknown", "score": -1}, 400),
        ({"id": "chatcmpl-unknown", "score": "good"}, 400),
        ({"id": "", "score": 1}, 400),
        ({"id": "chatcmpl-unknown"}, 400),
        ({"id": "chatcmpl-unknown", "score": 1, "model": "x"}, 400),
        ([], 400),
    ],
)
def test_invalid_feedback_is_refused(smart: Server, body: Any, status: int) -> None:
    refused = post(smart, "/v1/feedback", body)
    assert refused.status_code == status
    assert refused.json()["error"]["message"]


def test_a_score_of_nan_is_refused(smart: Server) -> None:
    body = '{"id": "chatcmpl-unknown", "score": NaN}'
    assert httpx.post(f"{smart.url}/v1/feedback", content=body).status_code == 400


def test_a_batch_is_routed_and_explained_without_calling_a_model(smart: Server) -> None:
    answer = post(smart, "/v1/route", {"queries": [EASY, HARD]}).json()
    easy, hard = answer["data"]
    assert (easy["model"], hard["model"]) == ("demo-small", "demo-large")
    assert answer["shortfall"] == 0
    assert answer["cold_start"] is False
    for candidate in hard["candidates"]:
        assert candidate.keys() == {"model", "quality", "uncertainty", "output_tokens", "cost"}
    assert len(hard["neighbours"]) == 5
    assert hard["reason"]


def test_a_batch_respects_each_querys_candidates_and_the_capacities(smart: Server) -> None:
    models = [["demo-small"], ["demo-large"], ["demo-small", "demo-large"]]
    answer = post(smart, "/v1/route", {"queries": [HARD, EASY, HARD], "models": models}).json()
    assert [route["model"] for route in answer["data"]] == [
        "demo-small",
        "demo-large",
        "demo-large",
    ]
    limited = {"queries": [HARD] * 6, "capacities": {"demo-large": 2}}
    answer = post(smart, "/v1/route", limited).json()
    assert [route["model"] for route in answer["data"]].count("demo-large") == 2
    assert answer["shortfall"] > 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "queries"),
        ({"queries": []}, "queries"),
        ({"queries": ["Well?", " "]}, "queries.1"),
        ({"queries": [7]}, "queries.0"),
        ({"queries": ["Well?"], "models": []}, "models"),
        ({"queries": ["Well?"], "models": ["unknown"]}, "unknown"),
        ({"queries": ["Well?"], "models": [["demo-small"], ["demo-large"]]}, "2 lists"),
        ({"queries": ["Well?"], "input_tokens": [1, 2]}, "2 input_tokens"),
        ({"queries": ["Well?"], "input_tokens": [-1]}, "input_tokens.0"),
        ({"queries": ["Well?"], "capacities": {"unknown": 1}}, "unknown"),
        (
            {"queries": ["Well?"] * 3, "capacities": {"demo-small": 1, "demo-large": 1}},
            "capacities",
        ),
        ({"queries": ["Well?"], "router": {"performance_requirement": 1.1}}, "requirement"),
        ({"queries": ["Well?"], "router": {"strategy": "sequential"}}, "smart"),
        ({"queries": ["Well?"], "capacities": {}, "router": {"mode": "floor"}}, "mean"),
        ({"queries": ["Well?"] * 5000}, "queries"),
    ],
)
def test_an_invalid_batch_is_refused(smart: Server, body: Any, message: str) -> None:
    refused = post(smart, "/v1/route", body)
    assert refused.status_code in {400, 404}, refused.text
    error = refused.json()["error"]
    assert message in f"{error['param']} {error['message']}"


def test_long_texts_and_other_languages_are_routed_too(smart: Server) -> None:
    queries = ["word " * 100_000, "法国的首都是哪里？", "ما هي عاصمة فرنسا؟", "🌳", "a\u0000b"]
    answer = post(smart, "/v1/route", {"queries": queries})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["data"]) == len(queries)


def test_invalid_router_options_are_refused(smart: Server) -> None:
    for router in (
        {"performance_requirement": 2},
        {"mode": "best"},
        {"unknown": 1},
        {"strategy": "sequential", "mode": "floor"},
        {"strategy": "sequential", "performance_requirement": 0.5},
    ):
        refused = ask(smart, EASY, router=router)
        assert refused.status_code == 400
        assert "router" in refused.json()["error"]["param"]


def test_what_was_learned_outlives_the_actor(smart: Server) -> None:
    earlier = store(smart)["unscored"]
    answer = ask(smart, "What is the capital of Peru?").json()
    wait_for_more(smart, earlier)
    before = store(smart)
    kill_actor("DEPLOYMENT_ACTOR", "store")
    # Requests are answered meanwhile.
    during = [ask(smart, EASY) for _ in range(5)]
    assert {answer.status_code for answer in during} == {200}
    time.sleep(1.2)  # each router caches the store's status for a second
    wait_until(lambda: all(store(smart)["status"] == "ready" for _ in range(8)))
    after = store(smart)
    assert after["scored"] == before["scored"]
    assert after["unscored"] >= before["unscored"]
    given = post(smart, "/v1/feedback", {"id": answer["id"], "score": 1})
    assert given.status_code == 200, given.text
    answer = ask(smart, HARD, router={"mode": "floor"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == "demo-large"


def test_what_a_server_learned_is_stored_under_its_name_and_its_models_identities(
    smart: Server, smart_folder: Path
) -> None:
    ask(smart, HARD)  # so that there is a policy
    database = Database(f"sqlite:///{smart_folder}/store.db")
    deadline = time.monotonic() + 20
    while not (kept := database.state.with_prefix("policies:")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    models = database.stats()["models"]
    database.close()
    (name,) = kept
    port = httpx.URL(smart.url).port
    assert re.fullmatch(rf"policies:\w+:[^:]+:{port}/smart", name)
    assert models["demo-small"]["identities"].keys() == {"huggingface/models/demo-small"}


def test_a_server_without_smart_routing_says_how_to_enable_it(every_kind: Server) -> None:
    for refused in (
        post(every_kind, "/v1/route", {"queries": ["Well?"]}),
        post(every_kind, "/v1/feedback", {"id": "x", "score": 1}),
        ask(every_kind, EASY, router={"strategy": "smart"}),
    ):
        assert refused.status_code == 400
        assert "llms.router.strategy" in refused.json()["error"]["message"]


def test_prices_are_listed(smart: Server) -> None:
    model = httpx.get(f"{smart.url}/v1/models/demo-small").json()
    assert model["cost_per_input_token"] == 1e-8
    assert model["cost_per_output_token"] == 4e-8


def test_the_routers_embedder_embeds_and_answers_nothing(smart: Server) -> None:
    client = openai.OpenAI(base_url=f"{smart.url}/v1", api_key="none")
    found = client.embeddings.create(model=DEFAULT_MODEL, input=[EASY, HARD])
    rows = [each.embedding for each in found.data]
    assert np.allclose(rows, Encoder()([EASY, HARD]), atol=1e-6)
    assert client.models.retrieve(DEFAULT_MODEL).owned_by == "router"
    with pytest.raises(openai.BadRequestError, match="POST /v1/embeddings"):
        client.chat.completions.create(
            model=DEFAULT_MODEL, messages=[{"role": "user", "content": EASY}]
        )
