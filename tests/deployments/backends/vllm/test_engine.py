"""Promise: a vLLM engine inside Ray Serve is a model like any other, also over HTTP."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any

import httpx
import jsonschema
import psutil
import pytest
from backends_under_test import BACKENDS
from engine_fixtures import ADAPTER, CALL, NAME, RECITED, SAID, THOUGHT, TOOL, Engines
from openai.types.chat import ChatCompletion
from serve_fixtures import in_repository

from deployments.contract import Backend, ChatRequest, merge
from ops.demo.questions import read_questions

SUM, WEATHER = RECITED


def ask(content: str, **fields: Any) -> dict[str, Any]:
    """The body of a greedy request."""
    messages = [{"role": "user", "content": content}]
    return {"model": NAME, "messages": messages, "temperature": 0.0, "max_tokens": 100, **fields}


def chat(engines: Engines, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{engines.url}/v1/chat/completions", json=body, timeout=120)


def text(engines: Engines, body: dict[str, Any]) -> str:
    reply = chat(engines, body)
    assert reply.status_code == 200, (reply.text, engines.health())
    return str(reply.json()["choices"][0]["message"]["content"])


# --- the same model in three runtimes ---


@pytest.mark.timeout(900)  # starts both engines
@pytest.mark.usefixtures("vllm_server", "engines")
async def test_the_same_text_comes_from_transformers_a_vllm_server_and_this_engine(
    request: pytest.FixtureRequest,
) -> None:
    questions = read_questions(in_repository("ops/demo/questions.jsonl"))
    chosen = [question.question for question in questions[:: len(questions) // 50]][:50]
    texts = {}
    for kind in ("huggingface", "endpoint", "engine"):
        backend = BACKENDS[kind](request)
        texts[kind] = await asyncio.gather(*(answer_of(backend, question) for question in chosen))
        await backend.aclose()
    assert texts["engine"] == texts["endpoint"]
    assert texts["engine"] == texts["huggingface"]


async def answer_of(backend: Backend, question: str) -> str:
    request = ChatRequest.model_validate(ask(question))
    async with aclosing(backend.chat(request)) as chunks:
        return merge([chunk async for chunk in chunks]).text


# --- answers parsed by the engine ---


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_reasoning_is_separate_from_the_text(engines: Engines, stream: bool) -> None:
    message = said(engines, ask(SUM, model="reciting", stream=stream))
    assert (message["reasoning_content"], message["content"]) == (THOUGHT, SAID)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_call_in_free_text_is_parsed(engines: Engines, stream: bool) -> None:
    message = said(engines, ask(WEATHER, model="reciting", stream=stream, tools=[TOOL]))
    (call,) = message["tool_calls"]
    assert call["function"]["name"] == CALL["name"]
    assert json.loads(call["function"]["arguments"]) == CALL["arguments"]


def said(engines: Engines, body: dict[str, Any]) -> dict[str, Any]:
    """The message of an answer, assembled from the events if it is streamed."""
    client = engines.client()
    if not body["stream"]:
        reply: ChatCompletion = client.chat.completions.create(**body)
        return reply.choices[0].message.model_dump()
    parts: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for event in client.chat.completions.create(**body):
        delta = event.choices[0].delta.model_dump()
        parts["content"] += delta.get("content") or ""
        parts["reasoning_content"] += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls") or ():
            if call["id"]:
                parts["tool_calls"].append(call)
            else:
                arguments = call["function"]["arguments"]
                parts["tool_calls"][call["index"]]["function"]["arguments"] += arguments
    return parts


ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "customer": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 8},
                "tier": {"enum": ["basic", "gold"]},
            },
            "required": ["name", "tier"],
            "additionalProperties": False,
        },
        "items": {
            "type": "array",
            "minItems": 2,
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {
                    "sku": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{2}$"},
                    "count": {"type": "integer", "minimum": 1, "maximum": 9},
                    "tags": {
                        "type": "array",
                        "items": {"enum": ["new", "old"]},
                        "minItems": 1,
                        "maxItems": 2,
                    },
                },
                "required": ["sku", "count", "tags"],
                "additionalProperties": False,
            },
        },
        "paid": {"type": "boolean"},
    },
    "required": ["customer", "items", "paid"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_nested_objects_enums_and_arrays_keep_to_their_schema(
    engines: Engines, stream: bool
) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "order", "schema": ORDER}}
    body = ask("An order, please.", stream=stream, response_format=form, max_tokens=600)
    jsonschema.validate(json.loads(said(engines, body)["content"]), ORDER)


# --- adapters ---


def test_an_adapter_answers_by_its_own_name(engines: Engines) -> None:
    plain, adapted = text(engines, ask(SUM)), text(engines, ask(SUM, model=ADAPTER))
    assert plain == "42"
    assert adapted != plain


def test_an_adapter_of_zeros_answers_like_its_model(engines: Engines) -> None:
    for question in ("What is the capital of Germany?", SUM, "Sort 52, 31, 90."):
        plain = text(engines, ask(question))
        assert text(engines, ask(question, model=f"{NAME}:same")) == plain


def test_adapters_are_listed_under_their_model(engines: Engines) -> None:
    listed = engines.client().models.list().data
    parents = {model.id: (model.model_extra or {}).get("parent") for model in listed}
    assert parents[ADAPTER] == NAME
    assert parents[NAME] is None


def test_an_adapter_answers_only_requests_that_name_it(engines: Engines) -> None:
    by_turn = {chat(engines, ask(SUM, model="auto")).json()["model"] for _ in range(6)}
    assert by_turn == {NAME, "reciting"}
    chosen = chat(engines, ask(SUM, model="auto", models=[ADAPTER]))
    assert chosen.headers["x-router-model"] == ADAPTER


def test_an_unknown_adapter_is_an_unknown_model(engines: Engines) -> None:
    reply = chat(engines, ask(SUM, model=f"{NAME}:nothing"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "model_not_found")


# --- disconnects and crashes ---

LONG_TOKENS = 1900  # at least: a character is one
LONG = {
    "type": "json_schema",
    "json_schema": {"name": "long", "schema": {"type": "string", "minLength": LONG_TOKENS}},
}


def long(stream: bool) -> dict[str, Any]:
    """The body of a request that is answered for many seconds."""
    return ask("Go on.", response_format=LONG, max_tokens=2000, stream=stream)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_generation_stops_when_the_client_disconnects(engines: Engines, stream: bool) -> None:
    def idle() -> bool:
        # Metrics are updated by the engine's steps, so make it take some.
        return bool(text(engines, ask(SUM))) and engines.running_requests(NAME) == 0

    await until(idle, 60)
    before = engines.written_tokens(NAME)
    async with httpx.AsyncClient(base_url=engines.url, timeout=120) as client:
        reading = asyncio.create_task(outcome(client, long(stream)))
        await until(lambda: engines.running_requests(NAME) == 1, 60)
        reading.cancel()
        await asyncio.wait([reading])
    await until(idle, 60)
    assert engines.written_tokens(NAME) - before < LONG_TOKENS


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_killed_process_is_replaced_and_no_request_hangs(engines: Engines) -> None:
    """A replica of one model and the engine of the other at once, since a restart takes long."""
    async with asyncio.TaskGroup() as both:
        both.create_task(dies_and_returns(engines, NAME, "ray::ServeReplica", "42"))
        both.create_task(dies_and_returns(engines, "reciting", "VLLM::EngineCore", SAID))


async def dies_and_returns(engines: Engines, model: str, victim: str, answer: str) -> None:
    """Kills a model's process during requests; none may hang, and the model must come back."""
    body = ask("Go on.", model=model, ignore_eos=True, max_tokens=1900)
    processes = psutil.Process().children(recursive=True)
    title = f"ray::ServeReplica:engines:{model}"
    (replica,) = (process for process in processes if title in " ".join(cmdline(process)))
    family = [replica, *replica.children(recursive=True)]
    (killed,) = (process for process in family if victim in " ".join(cmdline(process)))
    begun = asyncio.Event()
    async with httpx.AsyncClient(base_url=engines.url, timeout=120) as client:
        bodies = [{**body, "stream": n % 2 == 0} for n in range(6)]
        requests = [asyncio.create_task(outcome(client, body, begun)) for body in bodies]
        async with asyncio.timeout(60):
            await begun.wait()
        killed.kill()
        outcomes = await asyncio.gather(*requests)
    assert set(outcomes) <= {"an answer", "an error"}
    assert "an error" in outcomes
    await until(lambda: not any(process.is_running() for process in family), 120)
    # A request may wait for the new replica before the router's health report shows it.
    await until(lambda: chat(engines, ask(SUM, model=model)).status_code == 200, 240)
    await until(lambda: engines.health()["models"][model]["available"], 60)
    assert text(engines, ask(SUM, model=model)) == answer


def cmdline(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        line: list[str] = process.cmdline()
        return line
    return []


async def outcome(
    client: httpx.AsyncClient, body: dict[str, Any], begun: asyncio.Event | None = None
) -> str:
    """How a request ended for its caller, always in a form that OpenAI defines.

    Sets `begun` once a part of an answer is there.
    """
    content = ""
    async with client.stream("POST", "/v1/chat/completions", json=body) as reply:
        async for piece in reply.aiter_text():
            content += piece
            if begun is not None:
                begun.set()
    if reply.status_code != 200:
        assert json.loads(content)["error"]["message"]
        return "an error"
    if not body["stream"]:
        assert json.loads(content)["choices"][0]["finish_reason"]
        return "an answer"
    last = content.strip().split("\n\n")[-1]
    if last == "data: [DONE]":
        return "an answer"
    return "an error" if last.startswith('data: {"error"') else f"a stream cut off at {last}"


async def until(holds: Callable[[], bool], seconds: float) -> None:
    """Polls until a condition holds."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.1)
