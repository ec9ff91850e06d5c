"""Promise: whatever comes in, from callers, operators or providers, it is refused, never a crash.

`make fuzz` tries the same for longer (the profile "fuzz" of conftest.py).
"""

import copy
import dataclasses
import json
import re
import tempfile
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import reduce
from math import inf, isfinite
from types import SimpleNamespace
from typing import Any, cast

import httpx
import openai
import pytest
import schemathesis
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from pydantic_core import to_json
from ray import serve as rayserve
from serve_fixtures import Server, free_port, huggingface, unavailable

from deployments.backends.openai_chunks import read
from deployments.backends.openai_endpoint.backend import OpenAIBackend
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.backends.provider_errors import by_status, explain
from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest, Chunk
from deployments.errors import InvalidRequest, LLMError
from serve.app import build
from serve.config import ConfigError
from serve.http.api import create_api
from serve.http.batches import Batch
from serve.http.failures import error_json
from serve.http.requests import Feedback, parse, parse_as
from serve.preflight import inspect

# Long for reading one body, short for what hangs: the machine has other work, too.
SLOW_S = 5.0
# Examples are slow where other tests run, too.
unhurried = settings(deadline=None)
SECRET = "sk-0never0to0be0quoted"

# --- values as nobody should send them ---

characters = st.characters(exclude_categories=())  # lone surrogates, too
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(characters, max_size=6)
    | st.sampled_from(["m", "auto", "stop", "tool_calls", "smart", "{", "./x", "${A}", 10**400])
)
garbage = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(characters, max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container within a value, with each key or index of it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


@st.composite
def spoilt(draw: st.DrawFn, sound: Any, wrong: st.SearchStrategy[Any] = garbage) -> Any:
    """A sound value with a few places of it gone, doubled or wrong."""
    value = [copy.deepcopy(sound)]
    for _ in range(draw(st.integers(0, 3))):
        inside, key = draw(st.sampled_from(list(places(value))))
        change = draw(st.sampled_from(["wrong", "wrong", "gone", "more"]))
        if change == "wrong":
            inside[key] = draw(wrong)
        elif change == "more" and isinstance(inside, dict):
            inside[draw(st.text(max_size=3))] = draw(wrong)
        elif change == "more":
            inside.append(copy.deepcopy(inside[key]))
        elif inside is not value:
            del inside[key]
    return value[0]


# --- bodies of requests ---

TOOL = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
BODY = {
    "model": "auto",
    "messages": [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": "data:,x", "detail": "low"}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 1,
    "temperature": 0.5,
    "stop": ["x"],
    "seed": 1,
    "logit_bias": {"1": 1.0},
    "logprobs": True,
    "top_logprobs": 1,
    "tools": [{"type": "function", "function": TOOL}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": {"properties": {"a": {"$ref": "#"}}}},
    },
    "chat_template_kwargs": {"a": [1]},
    "metadata": {"a": "b"},
    "models": ["m"],
    "router": {"strategy": "smart", "performance_requirement": 0.5, "mode": "floor"},
}
BATCH = {
    "queries": ["a", "b"],
    "models": [["m"], ["m", "n"]],
    "input_tokens": [1, 2.5],
    "capacities": {"m": 1},
    "router": {"performance_requirement": 0.5},
}
FEEDBACK = {"id": "chatcmpl-1", "score": 0.5}


def as_body(value: Any) -> bytes:
    """JSON as Python writes it, which is not always JSON: NaN, Infinity, half a surrogate pair."""
    return json.dumps(value).encode()


# Text that is JSON, or nearly: numbers that no type holds, keys that come twice.
pieces = st.sampled_from(
    [*'{}[],:"\\', '"model"', '"messages"', '"role":', '"user"', "1e999", "-0", "9" * 5000, "null"]
)
texts = st.lists(pieces | st.text(max_size=3)).map(lambda pieces: "".join(pieces).encode())
doubled = st.lists(st.tuples(st.sampled_from([*BODY]), garbage), max_size=5).map(
    lambda pairs: b"{%s}" % b",".join(as_body(key) + b":" + as_body(value) for key, value in pairs)
)


@unhurried
@pytest.mark.parametrize(
    ("read_body", "sound"),
    [
        (parse, BODY),
        (lambda body: parse_as(Batch, body), BATCH),
        (lambda body: parse_as(Feedback, body), FEEDBACK),
    ],
    ids=["chat", "route", "feedback"],
)
@given(data=st.data())
def test_any_body_is_read_or_refused(
    read_body: Callable[[bytes], object], sound: Any, data: st.DataObject
) -> None:
    body = data.draw(spoilt(sound).map(as_body) | doubled | texts | st.binary())
    started = time.monotonic()
    try:
        read_body(body)
    except LLMError as error:
        check_refusal(error, range(400, 500))
    assert time.monotonic() - started < SLOW_S


def check_refusal(error: LLMError, statuses: Sequence[int]) -> None:
    """It can be sent, and its status is one of these."""
    assert error.status in statuses, repr(error)
    to_json(error_json(error))


MB = 2**20
USER = '{"role":"user","content":"hi"}'


def chat(**fields: str) -> str:
    """A body whose fields are given as JSON text."""
    whole = {"model": '"m"', "messages": f"[{USER}]", **fields}
    return "{" + ",".join(f'"{key}":{value}' for key, value in whole.items()) + "}"


def schema(text: str) -> str:
    return chat(
        response_format=f'{{"type":"json_schema","json_schema":{{"name":"s","schema":{text}}}}}'
    )


LARGE = {
    "open brackets": "[" * MB,
    "nested arrays": chat(metadata="[" * 100_000 + "]" * 100_000),
    "nested objects": chat(chat_template_kwargs='{"a":' * 100_000 + "1" + "}" * 100_000),
    "nested in a message": chat(messages='[{"content":' * 100_000 + "1" + "}]" * 100_000),
    "nested schema": schema('{"items":' * 100 + "{}" + "}" * 100),
    "a number of a million digits": chat(seed="9" * MB),
    "a number of many digits behind the point": chat(temperature="0." + "1" * MB),
    "a large exponent": chat(temperature="1e" + "9" * MB),
    "one key again and again": chat(
        messages=",".join(['[{"role":"user"}]', *(['"a":1'] * 200_000)])
    ),
    "many unknown keys": chat(**{f"key{i}": "1" for i in range(100_000)}),
    "many messages": chat(messages=f"[{','.join([USER] * 30_000)}]"),
    "many wrong messages": chat(messages=f"[{','.join(['{}'] * 300_000)}]"),
    "many parts": chat(
        messages='[{"role":"user","content":[' + ",".join(['{"type":"text"}'] * 60_000) + "]}]"
    ),
    "many models": chat(models=f"[{','.join(['5'] * 300_000)}]"),
    "many stops": chat(stop=f"[{','.join(['5'] * 300_000)}]"),
    "many biases": chat(logit_bias="{" + ",".join(f'"{i}":"x"' for i in range(80_000)) + "}"),
    "many tools": chat(tools=f"[{','.join(['{}'] * 300_000)}]"),
    "much metadata": chat(metadata="{" + ",".join(f'"{i}":1' for i in range(80_000)) + "}"),
    "a long name": chat(model=f'"{"m" * MB}"'),
    "escapes": chat(model='"' + r"\u0041" * 150_000 + '"'),
    "half a pair": chat(model=r'"\ud83d"'),
    "a schema of many types": schema(
        '{"anyOf":[' + ",".join(['{"type":"integer"}'] * 10_000) + "]}"
    ),
    "a schema with a hard pattern": schema(
        '{"pattern":"(a*)*(a*)*(a*)*b","const":"' + "a" * 5000 + '"}'
    ),
    "a schema that refers to itself": schema('{"$ref":"#"}'),
    "a schema of elsewhere": schema('{"$ref":"http://127.0.0.1:9/schema","$schema":"http://x"}'),
    "a schema with a repetition": schema(r'{"pattern":"(((a{1,1000}){1,1000}){1,1000})"}'),
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE.keys())
def test_a_large_body_is_read_or_refused_soon(body: str) -> None:
    started = time.monotonic()
    with suppress(InvalidRequest):
        parse(body.encode())
    assert time.monotonic() - started < SLOW_S


# --- configurations ---

MORE: dict[str, Any] = {
    "cost_per_input_token": 1e-6,
    "cost_per_output_token": 1e-6,
    "prior_quality": 0.5,
    "autoscaling": {"min_replicas": 1, "max_replicas": 2},
    "max_ongoing_requests": 2,
    "timeout": 1,
    "circuit": {"failures": 1, "seconds": 1},
    "context_window": 100,
    "capabilities": ["tools"],
    "fallbacks": ["n"],
}
CONFIGURATION = {
    "llms": {
        "models": [
            {"name": "m", "backend": "openai", "api_key": "${A}", "hostname": "http://h", **MORE},
            {"name": "n", "backend": "vllm", "hostname": "http://h", "api_key": "${A}"},
            {
                "name": "e",
                "backend": "vllm",
                "gpus": 2,
                "engine": {"max_model_len": 9, "hf_token": None},
                "adapters": {"a": "./a"},
            },
            {"name": "h", "backend": "huggingface", "model": "./f", "max_gpu_memory": {0: "1GB"}},
        ],
        "router": {"strategy": "smart", "performance_requirement": 0.5, "n_similar": 3},
        "store": {
            "url": "sqlite:///file",
            "history": ["./h.json"],
            "embedder": {"max_replicas": 1},
        },
    },
    "server": {
        "keys": [{"name": "k", "key": "${A}", "models": ["m"], "requests_per_minute": 1}],
        "cors_origins": ["http://localhost"],
        "autoscaling": {"max_replicas": 1},
        "max_body_bytes": 10_000,
    },
}
# Where a key or a password may be written by mistake, and how.
SPILLS: list[tuple[tuple[Any, ...], str]] = [
    (("llms", "models", 0, "api_key"), "{}"),
    (("llms", "models", 0, "hostname"), "http://me:{}@host"),
    (("llms", "models", 0, "hostname"), "http://host/v1?key={}"),
    (("llms", "models", 1, "api_key"), "{}"),
    (("llms", "models", 1, "hostname"), "https://{}@host/v1"),
    (("llms", "models", 2, "engine", "hf_token"), "{}"),
    (("llms", "store", "url"), "postgresql://me:{}@host/db"),
    (("llms", "store", "url"), "postgresql://host/db?password={}"),
    (("server", "keys", 0, "key"), "{}"),
]
written = st.sampled_from(["{}", " {}", "${}", "${{{}}}", "{}}}", '"{}', "{}\n"]).map(
    lambda written: written.format(SECRET)
)


@st.composite
def configurations(draw: st.DrawFn) -> Any:
    """A configuration that is wrong here and there, with secrets where none may be."""
    whole = copy.deepcopy(CONFIGURATION)
    for path, form in draw(st.lists(st.sampled_from(SPILLS), max_size=2)):
        section = reduce(lambda inside, key: inside[key], path[:-1], cast(Any, whole))
        section[path[-1]] = form.format(draw(written))
    return draw(spoilt(whole))


def load(args: dict[str, Any]) -> None:
    """Loads a configuration that may be wrong, but tells no secret."""
    try:
        told = repr(inspect(args))
    except ConfigError as error:
        told = "".join(traceback.format_exception(error))
    assert SECRET not in told


@unhurried
@given(configurations() | st.dictionaries(st.sampled_from(["llms", "server", "config"]), garbage))
def test_any_configuration_is_taken_or_refused_without_a_secret(args: Any) -> None:
    load(args if isinstance(args, dict) else {"llms": args})


# What YAML gives a meaning.
signs = st.sampled_from(
    "a b : - , { } [ ] & * ! | > % @ ` ? # \n \t ' \" << 1 . ~ &a *a".split(" ")
)


@unhurried
@given(
    configurations().map(lambda args: yaml.safe_dump(args, allow_unicode=True))
    | st.lists(signs).map("".join)
    | st.text(characters)
)
def test_any_configuration_file_is_too(text: str) -> None:
    with tempfile.NamedTemporaryFile("w", errors="surrogatepass") as file:
        file.write(text)
        file.flush()
        load({"config": file.name})


# --- names of tools ---

tool_names = st.lists(
    st.text("aA_/-.é", min_size=1, max_size=5)
    | st.text(min_size=1, max_size=256)
    | st.sampled_from(["x" * 64, "x" * 65, "x/" * 32, "_" * 64, "a__b_1f2e3d4c"]),
    min_size=1,
    max_size=128,
    unique=True,
)


@unhurried
@given(tool_names, tool_names)
def test_any_tools_go_out_safe_and_come_back_as_they_came(
    offered: list[str], called: list[str]
) -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}}
        for name in called
    ]
    request = ChatRequest.model_validate(
        {
            "model": "m",
            "messages": [{"role": "assistant", "tool_calls": calls}],
            "tools": [{"type": "function", "function": {"name": name}} for name in offered],
            "tool_choice": {"type": "function", "function": {"name": offered[0]}},
        }
    )
    names = ToolNames.of(request)
    sent = [tool["function"]["name"] for tool in names.tools(request)]
    history = [call["function"]["name"] for call in names.messages(request)[0]["tool_calls"]]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in [*sent, *history])
    assert len(set(sent)) == len(sent)
    assert [names.came(name) for name in sent] == offered
    assert [names.came(name) for name in history] == called
    assert names.tool_choice(request)["function"]["name"] == sent[0]


# --- what providers send ---

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=2)
DELTAS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "some"},
    {"content": None, "reasoning_content": "thought", "reasoning": "thought"},
    {"tool_calls": [{"index": 0, **CALL}]},
    {"tool_calls": [{"index": 0, "function": {"name": None, "arguments": "{}"}}]},
]
LOGPROBS = {"content": [{"token": "some", "logprob": -1.0, "bytes": None, "top_logprobs": []}]}
USAGE = {
    "prompt_tokens": 1,
    "completion_tokens": 2,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
EVENTS: list[dict[str, Any]] = [
    *(
        {"choices": [{"delta": delta, "logprobs": LOGPROBS, "finish_reason": None}]}
        for delta in DELTAS
    ),
    {"choices": [{"delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE, "service_tier": "flex"},
]


async def sound(chunks: AsyncIterator[Chunk]) -> None:
    """Reads an answer to its end, which may be an error of ours; every chunk can be sent on."""
    try:
        async for chunk in chunks:
            to_json(dataclasses.asdict(chunk))
            assert isinstance(chunk.text + chunk.reasoning, str)
            if chunk.usage is not None:
                *tokens, tier = dataclasses.astuple(chunk.usage)
                assert all(isinstance(count, int) for count in tokens)
                assert tier is None or isinstance(tier, str)
    except LLMError as error:
        # 500 is for what nobody foresaw.
        check_refusal(error, [*range(400, 500), 502, 503, 504])


async def sent(events: list[Any]) -> AsyncIterator[Any]:
    for event in events:
        yield event


def as_object(value: Any) -> Any:
    """What LiteLLM makes of JSON: objects with attributes."""
    if isinstance(value, list):
        return [as_object(item) for item in value]
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_object(item) for key, item in value.items()})
    return value


@unhurried
@given(spoilt(EVENTS), st.booleans())
async def test_any_events_of_a_stream_are_chunks_or_a_fault_of_the_provider(
    events: Any, by_openai: bool
) -> None:
    def made(event: Any) -> Any:
        if by_openai and isinstance(event, dict):
            return ChatCompletionChunk.construct(**event)
        return as_object(event)

    chunks = read(
        sent([made(event) for event in events] if isinstance(events, list) else [made(events)]),
        REQUEST,
        ToolNames.of(REQUEST),
        silence=5,
        context_window=None,
    )
    await sound(chunks)


ERROR = {"error": {"message": "no", "type": "t", "param": "p", "code": 400}}


def as_events(values: Any) -> bytes:
    """A stream of server-sent events."""
    return b"".join(b"data: %s\n\n" % as_body(value) for value in values or [])


lines = st.sampled_from(["data: [DONE]", "data: {", ": ping", "event: error", "data:", "\n", "\r"])
replies = st.builds(
    httpx.Response,
    st.just(200) | st.integers(200, 599),
    headers=st.fixed_dictionaries(
        {"content-type": st.sampled_from(["text/event-stream", "application/json", "nonsense"])},
        optional={"retry-after": st.sampled_from(["1", "nan", "-1", "1e999", "soon", ""])},
    ),
    content=st.lists(st.sampled_from([*EVENTS, ERROR]).flatmap(spoilt), max_size=6).map(as_events)
    | spoilt(ERROR).map(as_body)
    | st.lists(lines | st.text(max_size=3)).map(lambda lines: "\n".join(lines).encode())
    | st.binary(),
)


@unhurried
@given(replies)
async def test_any_reply_of_a_server_is_an_answer_or_a_fault_of_the_provider(
    reply: httpx.Response,
) -> None:
    """The real client, with its own reading of events and errors."""
    transport = httpx.MockTransport(lambda request: reply)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            openai, "DefaultAsyncHttpxClient", lambda **_: httpx.AsyncClient(transport=transport)
        )
        backend = OpenAIBackend(
            EndpointConfig(name="m", backend="vllm", hostname="http://127.0.0.1:9")
        )
    try:
        await sound(backend.chat(REQUEST))
    finally:
        await backend.aclose()


dates = st.datetimes(min_value=datetime(1, 1, 2)).map(
    lambda when: format_datetime(when.replace(tzinfo=UTC), usegmt=True)
)
waits = st.text() | st.floats().map(str) | st.integers().map(str) | dates


@unhurried
@given(waits | st.tuples(waits, waits).map(" ".join))
def test_any_retry_after_is_seconds_or_nothing(value: str) -> None:
    for kind in (by_status(429), by_status(503)):
        seconds = explain(kind, "m", headers={"retry-after": value}).retry_after
        assert seconds is None or (isfinite(seconds) and seconds >= 0)


# --- the running application, by its own description ---


@pytest.fixture(scope="module")
def smart(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Smart routing, one model that answers and one that can't be reached."""
    price = {"cost_per_input_token": 1e-8, "cost_per_output_token": 1e-8}
    down = f"http://127.0.0.1:{free_port()}"
    llms = {
        "models": [
            huggingface("demo-small", "demo-small", **price),
            {"name": "down", "backend": "vllm", "hostname": down, **price, "prior_quality": 0},
        ],
        "store": {"url": f"sqlite:///{tmp_path_factory.mktemp('store')}/store.db"},
    }
    rayserve.run(build({"llms": llms}), name="fuzz", route_prefix="/fuzz")
    server = Server(f"{ray_cluster}/fuzz")
    server.wait_for(
        lambda health: unavailable(health) == {"down"} and health["store"]["status"] == "ready",
        patience_s=120,
    )
    yield server
    rayserve.delete("fuzz")


checks = {
    "negative_data_rejection": {"expected-statuses": ["4xx"]},
    # What is valid may be refused all the same: no schema says which fields go together.
    "positive_data_acceptance": {"enabled": False},
}


def without_keys(document: dict[str, Any]) -> dict[str, Any]:
    """The description of a server that has no keys, as the one here: it asks nobody for one."""
    document = copy.deepcopy(document)
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return document


described = schemathesis.openapi.from_dict(
    without_keys(create_api().openapi()),
    # Each takes a request, so they are fewer.
    config=schemathesis.Config.from_dict(
        {"checks": checks, "generation": {"max-examples": settings().max_examples // 5}}
    ),
)


@described.parametrize()
def test_any_request_gets_what_the_description_says(case: schemathesis.Case, smart: Server) -> None:
    """Whatever is sent, valid or not: no 5xx, and status, headers and body as /openapi.json says;
    what it calls invalid is refused."""
    reach(case)
    reply = case.call_and_validate(base_url=smart.url, timeout=30)
    if reply.headers["content-type"][0].startswith("text/event-stream"):
        *_, last, nothing = reply.text.split("\n\n")
        assert nothing == ""
        assert last == "data: [DONE]" or "error" in json.loads(last.removeprefix("data: "))


def reach(case: schemathesis.Case) -> None:
    """Sends what would end at a model's name to the model that answers, asks it for little, and
    leaves time: of a very short one Ray's proxy tells the end itself."""
    seconds = str(case.headers.get("x-request-timeout-seconds", ""))
    if re.fullmatch(r"0?\.\d+|.*e-\d+|0+", seconds):
        del case.headers["x-request-timeout-seconds"]
    if not isinstance(body := case.body, dict) or "messages" not in body:
        return
    if isinstance(name := body.get("model"), str) and 1 <= len(name) <= 200:
        body["model"] = "demo-small"
    if isinstance(limit := body.get("max_tokens", inf), int | float) and limit > 8:
        body["max_tokens"] = 8
