"""Promise: OpenAI's client works with every kind of model as it does with OpenAI's own."""

import asyncio
import json
import re
import time
from collections import Counter
from typing import Any

import httpx
import jsonschema
import openai
import pytest
from serve_fixtures import Server, kill_actor, unavailable
from vllm_fixtures import CONTEXT

QUESTION: list[Any] = [{"role": "user", "content": "What is 7 plus 5?"}]
SEVERAL = ["demo-small", "demo-large", "demo/third"]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "city/weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"unit": {"enum": ["celsius", "kelvin"]}, "days": {"enum": [1, 2, 3]}},
            "required": ["unit", "days"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture
def client(every_kind: Server) -> openai.OpenAI:
    return every_kind.client()


@pytest.mark.parametrize("model", ["demo-large", "engine", "hosted", "auto"])
def test_a_question_is_answered(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0)
    assert answer.choices[0].message.content == "12"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model != "auto"


@pytest.mark.parametrize("model", ["demo-large", "engine", "hosted"])
def test_a_stream_gives_the_same_answer(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "12"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage
    assert {chunk.model for chunk in chunks} == {model}


@pytest.mark.parametrize("model", ["demo-small", "engine", "hosted"])
@pytest.mark.parametrize("choice", ["required", "named"])
def test_a_tool_is_called_by_its_own_name(client: openai.OpenAI, model: str, choice: str) -> None:
    named: Any = {"type": "function", "function": {"name": "city/weather"}}
    answer = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        temperature=0,
        max_tokens=200,
        tools=[WEATHER],
        tool_choice="required" if choice == "required" else named,
        parallel_tool_calls=False,
    ).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert answer.message.tool_calls
    call = answer.message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "city/weather"
    jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])
    # The answer is sent back as it came, followed by the tool's result.
    history = [
        *QUESTION,
        answer.message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    further = client.chat.completions.create(
        model=model, messages=history, tools=[WEATHER], max_tokens=5
    )
    assert further.choices[0].finish_reason in {"stop", "length"}


@pytest.mark.parametrize("model", ["demo-small", "engine", "hosted"])
def test_json_conforms_to_its_schema(client: openai.OpenAI, model: str) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "size": {"enum": ["s", "m"]},
            "inner": {
                "type": "object",
                "properties": {
                    "flags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}
                },
                "required": ["flags"],
                "additionalProperties": False,
            },
        },
        "required": ["size", "inner"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        max_tokens=300,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
    ).choices[0]
    assert answer.finish_reason == "stop"
    jsonschema.validate(json.loads(answer.message.content or ""), schema)


async def test_all_router_replicas_share_one_order_of_turns(every_kind: Server) -> None:
    """300 concurrent requests, 3 models, 2 router replicas: each model gets 100 ± 1."""
    body = {"model": "auto", "models": SEVERAL, "messages": QUESTION, "max_tokens": 2}
    other = {**body, "models": SEVERAL[:2]}
    async with httpx.AsyncClient(base_url=every_kind.url, timeout=120) as client:
        replies = await asyncio.gather(
            *(client.post("/v1/chat/completions", json=body) for _ in range(300)),
            *(client.post("/v1/chat/completions", json=other) for _ in range(30)),
        )
    assert {reply.status_code for reply in replies} == {200}
    assert all(reply.json()["model"] == reply.headers["x-router-model"] for reply in replies)
    spread = Counter(reply.headers["x-router-model"] for reply in replies[:300])
    assert all(99 <= spread[name] <= 101 for name in SEVERAL), spread
    # Another set of candidates, requested in between, takes turns of its own.
    others = Counter(reply.headers["x-router-model"] for reply in replies[300:])
    assert all(14 <= others[name] <= 16 for name in SEVERAL[:2]), others


def test_the_client_chooses_the_allowed_models(client: openai.OpenAI) -> None:
    answers = [
        client.chat.completions.create(
            model="auto", messages=QUESTION, extra_body={"models": ["demo-large", "engine"]}
        )
        for _ in range(4)
    ]
    assert Counter(answer.model for answer in answers) == {"demo-large": 2, "engine": 2}
    assert all(answer.choices[0].message.content == "12" for answer in answers)


@pytest.mark.parametrize("model", ["demo-small", "engine"])
def test_a_tool_call_streams(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model,
        messages=QUESTION,
        temperature=0,
        max_tokens=200,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "city/weather"}},
        stream=True,
    )
    choices = [chunk.choices[0] for chunk in stream if chunk.choices]
    calls = [call.function for choice in choices for call in choice.delta.tool_calls or ()]
    deltas = [delta for delta in calls if delta]
    assert "".join(delta.name or "" for delta in deltas) == "city/weather"
    arguments = "".join(delta.arguments or "" for delta in deltas)
    jsonschema.validate(json.loads(arguments), WEATHER["function"]["parameters"])
    assert choices[-1].finish_reason == "tool_calls"


def test_the_models_are_listed(every_kind: Server, client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"auto", *SEVERAL} <= listed.keys()
    created = {model.created for _ in range(5) for model in client.models.list()}
    assert len(created) == 1, "the same from both router replicas"
    assert time.time() - 3600 < created.pop() <= time.time()
    third = client.models.retrieve("demo/third")
    assert third.owned_by == "huggingface"
    with pytest.raises(openai.NotFoundError, match="demo-small"):
        client.models.retrieve("none")
    assert httpx.get(f"{every_kind.url}/health/live").status_code == 200
    assert httpx.get(f"{every_kind.url}/health").json() == {"status": "ok"}
    head = httpx.head(f"{every_kind.url}/health")
    assert (head.status_code, head.content) == (200, b"")
    ready = httpx.get(f"{every_kind.url}/health/ready").json()
    assert ready["models"]["demo-large"]["replicas"] == 1


def test_a_context_window_is_listed_as_soon_as_it_is_known(client: openai.OpenAI) -> None:
    known = dict.fromkeys(["demo-small", "engine", "auto"], CONTEXT)
    deadline = time.monotonic() + 30
    while True:
        windows = {model.id: model.to_dict()["context_window"] for model in client.models.list()}
        if windows.items() >= known.items():
            break
        assert time.monotonic() < deadline, windows
        time.sleep(0.2)
    assert windows["down"] is None


@pytest.mark.parametrize(
    ("fields", "status", "code", "says"),
    [
        ({"messages": []}, 400, "invalid_request", "messages"),
        ({"model": "none"}, 404, "model_not_found", "demo-small"),
        ({"models": ["none"]}, 404, "model_not_found", "demo-small"),
        ({"model": "demo-small", "models": ["demo-large"]}, 400, "invalid_request", "either"),
        ({"max_tokens": -1}, 400, "invalid_request", "max_tokens"),
        ({"unknown": 1}, 400, "unsupported_parameter", "unknown"),
        (
            {"model": "demo-small", "messages": [{"role": "user", "content": "a" * 10_000}]},
            400,
            "context_length_exceeded",
            "context",
        ),
        (
            {"model": "engine", "messages": [{"role": "user", "content": "a" * 10_000}]},
            400,
            "context_length_exceeded",
            "context",
        ),
        (
            {
                "model": "demo-small",
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}],
                    }
                ],
            },
            400,
            "unsupported_parameter",
            "images",
        ),
        (
            {
                "model": "demo-small",
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {
                        "name": "s",
                        "schema": {"type": "integer", "minimum": 5, "maximum": 3},
                    },
                },
            },
            400,
            "invalid_request",
            "",
        ),
    ],
)
def test_bad_input_is_refused_and_the_next_request_answered(
    every_kind: Server, fields: dict[str, Any], status: int, code: str, says: str
) -> None:
    body = {"model": "auto", "models": SEVERAL, "messages": QUESTION, **fields}
    if fields.get("model") and "models" not in fields:
        del body["models"]
    reply = httpx.post(f"{every_kind.url}/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert says in error["message"]
    well = {"model": "demo-small", "messages": QUESTION, "max_tokens": 1}
    assert httpx.post(f"{every_kind.url}/v1/chat/completions", json=well).status_code == 200


def test_invalid_json_and_large_bodies_are_refused(every_kind: Server) -> None:
    url = f"{every_kind.url}/v1/chat/completions"
    assert httpx.post(url, content=b"{").json()["error"]["type"] == "invalid_request_error"
    large = httpx.post(url, content=b" " * (17 * 2**20), timeout=60)
    assert large.status_code == 413
    assert large.json()["error"]["code"] == "request_too_large"
    assert httpx.get(f"{every_kind.url}/none").json()["error"]["code"] == "not_found"
    assert httpx.get(url).json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_client_that_disconnects_frees_its_slot(every_kind: Server, stream: bool) -> None:
    """The model takes one request at a time, and each abandoned one would occupy it for long."""
    endless = {
        "model": "single",
        "messages": QUESTION,
        "stream": stream,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "s", "schema": {"type": "string", "minLength": 1800}},
        },
    }
    url = f"{every_kind.url}/v1/chat/completions"
    for _ in range(8):
        if stream:
            with httpx.stream("POST", url, json=endless, timeout=60) as reply:
                assert next(reply.iter_lines()).startswith("data: ")
        else:
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url, json=endless, timeout=0.5)
    well = {"model": "single", "messages": QUESTION, "max_tokens": 1}
    assert httpx.post(url, json=well, timeout=60).status_code == 200


def test_the_fallback_answers_for_a_model_that_fails(every_kind: Server) -> None:
    url = f"{every_kind.url}/v1/chat/completions"
    reply = httpx.post(url, json={"model": "down", "messages": QUESTION}, timeout=60)
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"] == reply.headers["x-router-model"] == "demo-small"
    assert reply.headers["x-router-attempts"] == "3", "one retry, then the fallback"
    # A request that names its models gets no other.
    alone = {"model": "auto", "models": ["down"], "messages": QUESTION}
    reply = httpx.post(url, json=alone, timeout=60)
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "provider_unreachable"
    assert "down" in reply.json()["error"]["message"]


def test_a_model_without_the_capability_is_skipped_even_when_it_is_its_turn(
    every_kind: Server,
) -> None:
    """Only the engine supports logprobs."""
    models = [*SEVERAL, "single", "engine"]
    body = {"model": "auto", "models": models, "messages": QUESTION, "logprobs": True}
    for _ in models:
        reply = httpx.post(f"{every_kind.url}/v1/chat/completions", json=body, timeout=60)
        assert reply.status_code == 200, reply.text
        assert reply.json()["model"] == "engine"
        assert reply.json()["choices"][0]["logprobs"]["content"]


def test_a_model_that_is_not_running_is_skipped(every_kind: Server) -> None:
    """Without a failed attempt, which would show in x-router-attempts."""
    kill_actor("llms#demo_third")
    every_kind.wait_for(lambda health: "demo/third" in unavailable(health))
    time.sleep(1.5)  # the other router replica also refreshes once a second
    body = {"model": "auto", "models": ["demo/third", "demo-small"], "messages": QUESTION}
    reply = httpx.post(f"{every_kind.url}/v1/chat/completions", json=body, timeout=60)
    assert reply.headers["x-router-model"] == "demo-small"
    assert reply.headers["x-router-attempts"] == "1"
    every_kind.wait_for(lambda health: unavailable(health) == {"down"})


def test_readiness_says_where_a_provider_is_unreachable_and_why(
    every_kind: Server,
) -> None:
    every_kind.wait_for(lambda health: "since" in health["models"]["down"]["message"])
    ready = httpx.get(f"{every_kind.url}/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    down = ready.json()["models"]["down"]
    assert (down["available"], down["replicas"]) == (False, 1)
    where = re.search(r"http://127\.0\.0\.1:\d+: Connection refused$", down["message"])
    assert where, down
    assert not httpx.get(f"{every_kind.url}/v1/models/down").json()["available"]
    alone = {"model": "auto", "models": ["down"], "messages": QUESTION}
    reply = httpx.post(f"{every_kind.url}/v1/chat/completions", json=alone, timeout=60)
    assert reply.json()["error"]["code"] == "provider_unreachable"
    assert "127.0.0.1" not in reply.text


def test_a_model_scaled_to_zero_delays_nobody_and_is_started(every_kind: Server) -> None:
    body = {"model": "auto", "models": ["sleeper", "demo-small"], "messages": QUESTION}

    def ask() -> httpx.Response:
        reply = httpx.post(f"{every_kind.url}/v1/chat/completions", json=body, timeout=60)
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-router-attempts"] == "1"
        return reply

    assert every_kind.health()["models"]["sleeper"]["replicas"] == 0
    # Every second request is its turn.
    assert {ask().headers["x-router-model"] for _ in range(2)} == {"demo-small"}
    every_kind.wait_for(lambda health: health["models"]["sleeper"]["replicas"] == 1)
    time.sleep(1.5)  # the other router replica also refreshes once a second
    assert {ask().headers["x-router-model"] for _ in range(2)} == {"sleeper", "demo-small"}
