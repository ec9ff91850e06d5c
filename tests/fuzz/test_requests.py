"""Promise: any request body is either parsed or refused, quickly."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from fuzzing import CALL, as_body, check_refusal, garbage, spoilt, unhurried
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import InvalidRequest, LLMError
from serve.http.batches import Batch
from serve.http.bodies.fields import parse_as
from serve.http.chat.requests import parse
from serve.http.completions.requests import parse as parse_completion
from serve.http.embeddings.requests import parse as parse_embedding
from serve.http.messages.requests import parse as parse_message
from serve.http.responses.requests import parse as parse_response
from serve.http.schemas import Feedback

# Long for reading one body, short for what hangs: the machine does other work, too.
SLOW_S = 5.0

TOOL = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
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
RESPONSE = {
    "model": "auto",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": "data:,x", "detail": "low"},
            ],
        },
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "encrypted_content": "llm-cores:e30=",
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "1",
            "output": [{"type": "input_text", "text": "done"}],
        },
    ],
    "instructions": "be brief",
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "max_output_tokens": 1,
    "top_logprobs": 1,
    "tools": [{"type": "function", **TOOL}],
    "tool_choice": {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "function", "name": "f"}],
    },
    "text": {
        "format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}},
        "verbosity": "low",
    },
    "reasoning": {"effort": "low", "summary": "auto"},
    "store": True,
    "router": {"strategy": "smart"},
}
FEEDBACK = {"id": "chatcmpl-1", "score": 0.5}
EMBEDDING = {
    "model": "m",
    "input": ["a", "b"],
    "encoding_format": "base64",
    "dimensions": 5,
    "user": "u",
}
COMPLETION = {
    "model": "auto",
    "prompt": ["hi"],
    "n": 1,
    "best_of": 1,
    "echo": False,
    "suffix": "",
    "logprobs": 1,
    **{key: BODY[key] for key in ("stream", "stop", "logit_bias", "models", "router")},
}
PICTURE = {"type": "base64", "media_type": "image/png", "data": "aW1n"}
NOTE = {"type": "base64", "media_type": "text/plain", "data": "bm90ZQ=="}
MESSAGE = {
    "model": "auto",
    "max_tokens": 1,
    "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image", "source": PICTURE},
                {"type": "document", "source": NOTE, "title": "t"},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1]}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "1",
                    "content": [{"type": "image", "source": PICTURE}],
                    "is_error": True,
                }
            ],
        },
        {"role": "assistant", "content": "It "},
    ],
    "tools": [{"name": "f", "input_schema": {"type": "object"}, "input_examples": [{"a": 1}]}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {"a": 1}}},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "cache_control": {"type": "ephemeral"},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["x"],
    "service_tier": "auto",
    "stream": True,
    "models": ["m"],
    "router": {"strategy": "smart"},
}


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
        (parse_response, RESPONSE),
        (parse_message, MESSAGE),
        (parse_completion, COMPLETION),
        (parse_embedding, EMBEDDING),
        (parse_embedding, {**EMBEDDING, "input": [[1, 2], [3]]}),
        (lambda body: parse_as(Batch, body), BATCH),
        (lambda body: parse_as(Feedback, body), FEEDBACK),
    ],
    ids=[
        *("chat", "response", "message", "completion", "embedding", "embedding of ids"),
        *("route", "feedback"),
    ],
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
def test_a_large_body_is_read_or_refused_quickly(body: str) -> None:
    started = time.monotonic()
    with suppress(InvalidRequest):
        parse(body.encode())
    assert time.monotonic() - started < SLOW_S


@pytest.mark.parametrize(
    "given",
    [
        ["a"] * 90_000,
        [5] * 90_000,
        ["a", *[5] * 90_000],
        [[5]] * 40_000,
        [["a"] * 90_000],
        [5, *["a"] * 90_000],
        "a" * MB,
    ],
    ids=["texts", "ids", "mixed", "lists of ids", "texts in a list", "ids and texts", "long"],
)
def test_large_inputs_to_embed_are_read_or_refused_quickly(given: Any) -> None:
    started = time.monotonic()
    with suppress(InvalidRequest):
        parse_embedding(json.dumps({"model": "m", "input": given}).encode())
    assert time.monotonic() - started < SLOW_S
