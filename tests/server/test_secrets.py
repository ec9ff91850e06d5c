"""Promise: no response, header, log, metric, `repr` or `serve config` contains a secret."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from fake_providers import Fake, serving
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
from serve_fixtures import CANARIES, METRICS_PORT, Server, kill_actor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from deployments.telemetry.reporting import PERIOD_S
from ops.ports import free_port
from serve.access.keys import Keys, hash_of, new_key
from serve.config import load_config

ROUTER_KEY = CANARIES["CANARY_ROUTER_KEY"]
CALLERS_KEY = new_key()
SECRETS = [*CANARIES.values(), CALLERS_KEY]
# An unknown caller's, which may be valid somewhere else.
STRANGERS_KEY = "sk-canary-stranger-0123456789abcdef0123456789abcdef"
QUESTION = [{"role": "user", "content": "hi"}]
MODELS = ["refuses", "fails", "rejects", "breaks-off", "by-itself", "endpoint"]


def telltale(request: Request, body: Any) -> Response:
    """A provider that repeats the key of each request wherever it can."""
    key = request.headers["authorization"]
    error = {"message": f"wrong: {key}", "type": key, "param": key, "code": key}
    headers = {"x-request-id": key.split()[-1], "x-key": key}
    status = {"fails": 500, "rejects": 401}.get(body["model"], 400)
    if body["model"] != "breaks-off":
        return JSONResponse({"error": error}, status, headers)
    text = {"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events = [{**chunk, "choices": [text]}, {"error": error}]
    return StreamingResponse(
        (f"data: {json.dumps(event)}\n\n" for event in events),
        media_type="text/event-stream",
        headers=headers,
    )


def configuration(provider: Fake) -> dict[str, Any]:
    key = {"api_key": "${CANARY_PROVIDER_KEY}", "retries": 0}
    there = {"backend": "openai", "hostname": provider.url, **key}
    models: list[dict[str, Any]] = [
        {"name": name, **there} for name in ("refuses", "fails", "rejects", "breaks-off")
    ]
    # Without a configured key, LiteLLM finds one in the environment.
    models.append({"name": "by-itself", "backend": "openai", "hostname": provider.url})
    models.append({"name": "endpoint", "backend": "vllm", "hostname": provider.url, **key})
    for model in models:
        model |= {"cost_per_input_token": 1e-6, "cost_per_output_token": 1e-6}
    # Nothing listens there, so the store reports why it can't be reached.
    store = f"postgresql://canary:${{CANARY_PASSWORD}}@127.0.0.1:{free_port()}/none"
    keys = [
        {"name": "by-variable", "key": "${CANARY_ROUTER_KEY}", "metrics": True},
        {"name": "by-hash", "sha256": hash_of(CALLERS_KEY).hex(), "models": ["refuses"]},
        {"name": "seldom", "sha256": hash_of("seldom").hex(), "requests_per_minute": 2},
    ]
    return {
        "llms": {"models": models, "router": {"strategy": "smart"}, "store": {"url": store}},
        "server": {"keys": keys, "body_timeout": 0.5},
    }


@pytest.fixture(scope="module")
def provider() -> Iterator[Fake]:
    with serving(telltale) as fake:
        yield fake


@pytest.fixture(scope="module")
def guarded(ray_cluster: str, provider: Fake) -> Iterator[Server]:
    """The application as `serve deploy` deploys it, under its own prefix."""
    application = {
        "name": "guarded",
        "route_prefix": "/guarded",
        "import_path": "serve.app:build",
        "args": configuration(provider),
    }
    client = _get_global_client()
    assert client
    client.deploy_apps(ServeDeploySchema(applications=[application]), _blocking=True)
    yield Server(f"{ray_cluster}/guarded")
    client.delete_apps(["guarded"])


def shown(reply: httpx.Response) -> str:
    return f"{reply.status_code} {reply.reason_phrase} {reply.headers!r} {reply.text}"


def asked(server: Server) -> Iterator[str]:
    """Everything that callers can see, whatever they try."""
    bearers = [ROUTER_KEY, CALLERS_KEY, STRANGERS_KEY, None]
    for bearer in bearers:
        headers = {"authorization": f"Bearer {bearer}"} if bearer else {}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
            for path in ("/v1/models", "/health/ready", "/health/live", "/docs", "/openapi.json"):
                yield shown(http.get(path, params={"key": bearer or "none"}))
            yield shown(http.get("/v1/models/refuses"))
            yield shown(http.get("/none", headers={"x-api-key": bearer or "none"}))
            for model in MODELS:
                for stream in (False, True):
                    body = {"model": model, "messages": QUESTION, "stream": stream}
                    yield shown(http.post("/v1/chat/completions", json=body))
            body = {"model": "auto", "messages": QUESTION}
            yield shown(http.post("/v1/chat/completions", json=body))
            for wrong in ({"api_key": bearer or "none"}, {"metadata": bearer or "none"}):
                yield shown(http.post("/v1/chat/completions", json={**body, **wrong}))
            yield shown(http.post("/v1/chat/completions", content=f'{{"{bearer}'))
            yield shown(http.post("/v1/route", json={"queries": ["hi"]}))
            yield shown(http.post("/v1/feedback", json={"id": "none", "score": 1}))


def scraped(server: Server) -> str:
    """The metrics, once all routers have reported what they did."""
    time.sleep(2 * PERIOD_S)
    bearer = {"authorization": f"Bearer {ROUTER_KEY}"}
    text = httpx.get(f"{server.url}/metrics", headers=bearer, timeout=20).text
    assert 'llm_key_requests_total{key="by-variable"' in text
    return text


def test_nothing_shown_or_stored_contains_a_secret(guarded: Server, provider: Fake) -> None:
    seen = {"an answer": "\n".join(asked(guarded))}
    keys = [headers.get("authorization") for headers in provider.headers]
    for name in ("CANARY_PROVIDER_KEY", "OPENAI_API_KEY"):
        assert f"Bearer {CANARIES[name]}" in keys, "the provider never received the key"
    client = _get_global_client()
    assert client
    details = client.get_serve_details()
    assert details["applications"]["guarded"]["deployed_app_config"]["args"]
    seen["serve config and serve status"] = json.dumps(details, default=repr)
    config = load_config(configuration(provider))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CANARIES.items():
            patch.setenv(name, value)
        known = Keys(config.server, MODELS)
    caller = known.caller(ROUTER_KEY)
    assert caller
    seen["a repr"] = f"{config!r} {config} {known!r} {vars(known)!r} {caller!r}"
    seen["Ray's metrics"] = httpx.get(f"http://127.0.0.1:{METRICS_PORT}/metrics").text
    assert "serve_num_http_requests" in seen["Ray's metrics"]
    seen["the metrics"] = scraped(guarded)
    (node,) = ray.nodes()  # type: ignore[no-untyped-call]
    logs = Path(node["ObjectStoreSocketName"]).parents[1]  # the session's folder
    read = 0
    for file in logs.rglob("*"):
        if file.is_file():
            seen[str(file.relative_to(logs))] = text = file.read_text("utf-8", "replace")
            read += "guarded" in text
    assert read, "the application's logs were not found"
    for where, text in seen.items():
        for secret in [*SECRETS, STRANGERS_KEY]:
            at = text.find(secret)
            assert at < 0, f"{where} contains {secret}: {text[max(0, at - 300) : at + 100]}"


def test_a_caller_sees_only_its_own_models(guarded: Server) -> None:
    bearer = {"authorization": f"Bearer {CALLERS_KEY}"}
    with httpx.Client(base_url=guarded.url, headers=bearer, timeout=60) as http:
        listed = http.get("/v1/models").json()["data"]
        assert {model["id"] for model in listed} == {"auto", "refuses"}
        assert http.get("/v1/models/fails").status_code == 404
        assert http.get("/health/ready").json()["models"].keys() == {"refuses"}
        for fields in (
            {"model": "fails"},
            {"model": "auto", "models": ["refuses", "fails"]},
        ):
            reply = http.post("/v1/chat/completions", json={"messages": QUESTION, **fields})
            assert reply.status_code == 404
            assert reply.json()["error"]["code"] == "model_not_found"
            assert "endpoint" not in reply.text
        batch = {"queries": ["hi"], "models": ["fails"]}
        assert http.post("/v1/route", json=batch).status_code == 404
        # "auto" chooses among the caller's models alone.
        reply = http.post("/v1/chat/completions", json={"model": "auto", "messages": QUESTION})
        assert "'refuses'" in reply.json()["error"]["message"]
    with httpx.Client(base_url=guarded.url) as http:
        assert "models" not in http.get("/health/ready").json()


def test_requests_per_minute_are_limited_even_while_the_counter_is_gone(guarded: Server) -> None:
    bearer = {"authorization": "Bearer seldom"}
    with httpx.Client(base_url=guarded.url, headers=bearer, timeout=60) as http:
        assert [http.get("/v1/models").status_code for _ in range(3)] == [200, 200, 429]
        kill_actor("guarded", "quotas")
        # The replica counts by itself, or the restarted actor does: both start from zero.
        assert [http.get("/v1/models").status_code for _ in range(2)] == [200, 200]
        reply = http.get("/v1/models")
        assert reply.status_code == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert reply.json()["error"]["code"] == "rate_limit_exceeded"


def test_a_slow_body_times_out(guarded: Server) -> None:
    """Through Ray's proxy, which has no such limit."""

    def slowly() -> Iterator[bytes]:
        for byte in b'{"model": "auto", "messages"':
            yield bytes([byte])
            time.sleep(0.05)

    bearer = {"authorization": f"Bearer {ROUTER_KEY}"}
    reply = httpx.post(f"{guarded.url}/v1/chat/completions", content=slowly(), headers=bearer)
    assert reply.status_code == 408
    assert reply.json()["error"]["code"] == "request_timeout"
