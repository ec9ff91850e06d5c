"""Promise: a simulated model takes the time that its keys say, and no other."""

import asyncio
import time
from contextlib import aclosing
from typing import Any

import pytest

from deployments.backends.simulated.backend import SimulatedBackend
from deployments.backends.simulated.config import SimulatedConfig
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import InvalidRequest

# Fast enough for a test, and slow enough to be told from no time at all.
RATES = {"prefill_tokens_per_second": 1000, "tokens_per_second": 200}


def simulated(**keys: Any) -> SimulatedBackend:
    return SimulatedBackend(SimulatedConfig(name="m", backend="simulated", **{**RATES, **keys}))


def ask(content: str = "What?", **fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": content}]
    return ChatRequest.model_validate({"model": "m", "messages": messages, **fields})


async def answer(backend: SimulatedBackend, request: ChatRequest) -> Chunk:
    async with aclosing(backend.chat(request)) as chunks:
        return merge([chunk async for chunk in chunks])


async def test_a_request_takes_its_prompt_and_its_answer() -> None:
    backend, began = simulated(), time.monotonic()
    prompt = "four" * 100
    first = None
    async with aclosing(backend.chat(ask(prompt, max_tokens=20, stream=True))) as chunks:
        async for _ in chunks:
            first = first or time.monotonic() - began
    assert first is not None
    assert first >= 100 / 1000 + 1 / 200
    assert time.monotonic() - began >= 100 / 1000 + 20 / 200


async def test_an_answer_is_as_long_as_asked_for_and_else_as_configured() -> None:
    backend = simulated(answer_tokens=7, tokens_per_second=10_000)
    for limit, length in (None, 7), (33, 33):
        said = await answer(backend, ask(max_tokens=limit))
        assert said.usage is not None
        assert (said.usage.completion_tokens, len(said.text.split())) == (length, length)
    form = {"type": "json_object"}
    in_json = await answer(backend, ask(max_tokens=33, response_format=form))
    assert in_json.usage is not None
    assert in_json.usage.completion_tokens == 33


async def test_requests_beyond_the_places_wait_in_their_order() -> None:
    backend, ended = simulated(places=2), list[int]()

    async def request(number: int) -> None:
        await answer(backend, ask(max_tokens=10))
        ended.append(number)

    began = time.monotonic()
    await asyncio.gather(*map(request, range(6)))
    assert time.monotonic() - began >= 3 * 10 / 200
    assert [set(ended[at : at + 2]) for at in (0, 2, 4)] == [{0, 1}, {2, 3}, {4, 5}]


async def test_a_request_that_is_given_up_leaves_its_place() -> None:
    backend = simulated(places=1)
    async with asyncio.timeout(10):
        async with aclosing(backend.chat(ask(max_tokens=100_000, stream=True))) as chunks:
            await anext(chunks)
            waiting = asyncio.create_task(answer(backend, ask()))
            await asyncio.sleep(0)
            waiting.cancel()
        assert (await answer(backend, ask(max_tokens=1))).usage


def test_the_start_of_its_process_counts_as_start(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def create_time(self) -> float:
            return 1000.0

    slept = list[float]()
    monkeypatch.setattr("psutil.Process", Process)
    monkeypatch.setattr("time.time", lambda: 1002.0)
    monkeypatch.setattr("time.sleep", slept.append)
    simulated(start_seconds=5)
    simulated(start_seconds=1)
    assert slept == [3.0, 0.0]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "(a+)+b"},
        {"type": "array", "minItems": 10**9},
        {"$ref": "#"},
        {"$ref": "#/$defs/none"},
        {"const": 1, "allOf": [{"$ref": "#"}]},
        {"const": {"properties": 3, "required": ["a"]}, "allOf": [{"$ref": "#/const"}]},
        {"const": "a" * 100_001},
        {"type": "array", "minItems": 20, "items": {"type": "string", "minLength": 10_000}},
    ],
    ids=[
        *("pattern", "long", "recursive", "dangling", "recursive check", "no schema"),
        *("long constant", "long together"),
    ],
)
async def test_a_schema_without_a_simple_value_is_refused(schema: dict[str, Any]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "none", "schema": schema}}
    with pytest.raises(InvalidRequest, match="simplify it"):
        await answer(simulated(), ask(response_format=form))


PATTERN = "^(a+)+b"
# What these patterns are to be matched with, for longer than anybody waits.
TEXT = {"type": "string", "minLength": 200}


def twice(name: str) -> dict[str, Any]:
    return {"allOf": 2 * [{"$ref": f"#/$defs/{name}"}]}


# Each definition refers to the next one twice: 2^60 checks.
LAUGHS = {"0": {"type": "null"}, **{f"{n}": twice(f"{n - 1}") for n in range(1, 61)}}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [TEXT, {"pattern": PATTERN}]},
        {"allOf": [TEXT, {"$ref": "#/examples/0"}], "examples": [{"pattern": PATTERN}]},
        {"const": {"a" * 200: 1}, "patternProperties": {PATTERN: True}},
        {"allOf": [{"type": "null"}, twice("60")], "$defs": LAUGHS},
        {"const": {}, "unevaluatedProperties": False, "anyOf": [twice("60")], "$defs": LAUGHS},
        {"allOf": [{"type": "null"}, twice("60")], "$defs": LAUGHS, "$schema": DRAFT_7},
        {"type": "array", "minItems": 90, "items": {"allOf": [{"type": "null"}, *900 * [{}]]}},
    ],
    ids=["pattern", "hidden pattern", "names", "fan", "unevaluated", "dialect", "wide"],
)
async def test_a_schema_that_takes_long_to_check_is_refused_at_once(schema: dict[str, Any]) -> None:
    """The event loop stands still meanwhile."""
    form = {"type": "json_schema", "json_schema": {"name": "slow", "schema": schema}}
    with pytest.raises(InvalidRequest, match="simplify it") as refused:
        await answer(simulated(), ask(response_format=form))
    assert "too long to check" in str(refused.value.__cause__)


async def test_a_property_may_be_called_pattern() -> None:
    schema = {"type": "object", "properties": {"pattern": {"const": "x"}}, "required": ["pattern"]}
    form = {"type": "json_schema", "json_schema": {"name": "p", "schema": schema}}
    assert (await answer(simulated(), ask(response_format=form))).text == '{"pattern": "x"}'


async def test_nothing_is_fetched_for_a_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = list[Any]()
    monkeypatch.setattr("socket.create_connection", lambda *to, **_: fetched.append(to))
    for where in ({}, {"$id": "http://127.0.0.1:9/"}):
        remote = {"$ref": "http://127.0.0.1:9/x"}
        form = {"name": "far", "schema": {**where, "allOf": [{"type": "null"}, remote]}}
        asked = ask(response_format={"type": "json_schema", "json_schema": form})
        with pytest.raises(InvalidRequest, match="simplify it"):
            await answer(simulated(), asked)
    assert fetched == []


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "json_object"}}])
async def test_no_answer_is_longer_than_the_context_window(fields: dict[str, Any]) -> None:
    """Not even in memory: it is written before the request waits for a place."""
    backend = simulated(tokens_per_second=10**9)
    said = await answer(backend, ask("four", max_tokens=10**12, **fields))
    assert said.finish_reason == "length" or fields
    assert said.usage is not None
    assert said.usage.prompt_tokens + said.usage.completion_tokens == 131_072
