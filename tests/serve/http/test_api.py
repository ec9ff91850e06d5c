"""Promise: over HTTP an answer is OpenAI's JSON or events, and its headers say what gave it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from scripted_models import END, Models, api_client, continues, says

from deployments.errors import ProviderError, RateLimited
from serve.access.keys import hash_of, new_key
from serve.core import Core
from serve.routing.prices import Price
from serve.routing.strategy import Question, Ranking

BODY = {"model": "auto", "messages": [{"role": "user", "content": "Count."}]}
PATH = "/v1/chat/completions"


async def client(models: Models, **config: Any) -> httpx.AsyncClient:
    """A client of the whole API over scripted models."""
    core = await models.core(prices=dict.fromkeys(models.scripts, Price(1, 1)))
    return api_client(core, models, **config)


async def test_a_whole_answer_is_a_completion_and_its_headers_say_what_gave_it() -> None:
    models = Models(a=[says(RateLimited("full"))], b=[says("one ", "two", END)])
    async with await client(models) as http:
        reply = await http.post(PATH, json=BODY)
    assert reply.status_code == 200
    completion = reply.json()
    assert completion["choices"][0]["message"]["content"] == "one two"
    assert completion["id"].startswith("chatcmpl-")
    told = {name: value for name, value in reply.headers.items() if name.startswith("x-router")}
    assert told == {
        "x-router-model": "b",
        "x-router-strategy": "sequential",
        "x-router-attempts": "2",
        "x-router-cost": "8",
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reason_that_no_header_can_hold_is_told_in_ascii(stream: bool) -> None:
    class Outspoken:
        async def rank(self, question: Question) -> Ranking:
            return Ranking(["a"], reason="one → two\r\nset-cookie: three ")

    models = Models(a=[says("one", END)])
    core = await models.core(Outspoken())
    async with api_client(core, models) as http:
        reply = await http.post(PATH, json={**BODY, "stream": stream})
    assert reply.status_code == 200
    assert reply.headers["x-router-reason"] == "one ? two?set-cookie: three"
    assert "set-cookie" not in reply.headers
    assert core.in_flight == {"a": 0}


async def test_a_stream_is_events_that_end_with_done() -> None:
    models = Models(a=[says("one ", ProviderError("cut"))], b=[continues("one two")])
    async with await client(models) as http:
        reply = await http.post(
            PATH, json={**BODY, "stream": True, "stream_options": {"include_usage": True}}
        )
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.headers["x-router-model"] == "a"
    *events, done = reply.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events]
    pieces = [choice["delta"].get("content", "") for c in chunks for choice in c["choices"]]
    assert "".join(pieces) == "one two"
    assert [chunk["router"]["model"] for chunk in chunks if "router" in chunk] == ["b"]
    assert chunks[-1]["usage"]["total_tokens"] == 8


@pytest.mark.parametrize(
    ("script", "body", "status", "code"),
    [
        (says(RateLimited("full", retry_after=700)), BODY, 429, "rate_limit_exceeded"),
        (says("one", END), {**BODY, "model": "other"}, 404, "model_not_found"),
        (says("one", END), {**BODY, "unknown": 1}, 400, "unsupported_parameter"),
        (says(ValueError("a secret")), BODY, 500, "internal_error"),
    ],
)
async def test_an_error_is_openais_json_with_its_status(
    script: Any, body: dict[str, Any], status: int, code: str
) -> None:
    async with await client(Models({"retries": 0}, a=[script])) as http:
        reply = await http.post(PATH, json=body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert ("retry-after" in reply.headers) == (status == 429)
    assert "secret" not in reply.text


async def test_the_clients_own_timeout_ends_a_request() -> None:
    models = Models(a=[says("one", END, pause=60)])
    async with await client(models) as http:
        late = await http.post(PATH, json=BODY, headers={"x-request-timeout-seconds": "0.3"})
        wrong = await http.post(PATH, json=BODY, headers={"x-request-timeout-seconds": "soon"})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
    assert models.responses[0].left
    assert wrong.json()["error"]["param"] == "x-request-timeout-seconds"


async def test_a_body_must_arrive_whole_in_time_and_not_be_too_long() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    models = Models(a=[says("one", END)])
    async with await client(models, body_timeout=0.05, max_body_bytes=1024) as http:
        assert (await http.post(PATH, content=slow())).status_code == 408
        long = {**BODY, "messages": [{"role": "user", "content": "x" * 1024}]}
        assert (await http.post(PATH, json=long)).status_code == 413
    assert models.asked == []


async def test_models_and_health_are_reported() -> None:
    async with await client(Models(a=[says("one", END)])) as http:
        listed = (await http.get("/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["auto", "a"]
        one = (await http.get("/v1/models/a")).json()
        assert (one["owned_by"], one["cost_per_input_token"], one["available"]) == ("x", 1, True)
        assert (await http.get("/v1/models/none")).json()["error"]["code"] == "model_not_found"
        assert (await http.get("/health")).json() == {"status": "ok"}
        assert (await http.get("/health/live")).json() == {"status": "live"}
        ready = (await http.get("/health/ready")).json()
        assert ready["models"]["a"]["status"] == "HEALTHY"


async def test_a_change_of_quality_is_told_to_those_who_may_use_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = new_key()
    keys = [{"name": "ann", "sha256": hash_of(key).hex(), "models": ["a"]}]
    models = Models(a=[says("one", END)], b=[says("two", END)])
    http = await client(models, keys=keys, allow_anonymous=False)
    changes = {name: {"model": name, "difference": -0.1} for name in "ab"}
    store = {"status": "ready", "message": "", "changes": changes}

    async def status(core: Core, timeout_s: float) -> dict[str, Any]:
        return store

    monkeypatch.setattr(Core, "store_status", status)
    async with http:
        as_ann = {"authorization": f"Bearer {key}"}
        told = (await http.get("/health/ready", headers=as_ann)).json()["store"]
        anyone = (await http.get("/health/ready")).json()["store"]
    assert told == {**store, "changes": {"a": changes["a"]}}
    assert anyone == {"status": "ready"}


@pytest.mark.parametrize("path", ["/v1/route", "/v1/feedback"])
async def test_smart_routing_that_is_not_configured_is_a_clear_error(path: str) -> None:
    body = {"queries": ["?"]} if path == "/v1/route" else {"id": "1", "score": 1}
    async with await client(Models(a=[says("one", END)])) as http:
        reply = await http.post(path, json=body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "router.strategy")
