"""Promise: JSON follows its schema, whatever the model would rather write."""

import asyncio
import json
from typing import Any

import pytest
from huggingface_requests import (
    ORDER,
    answer,
    ask,
    calls,
    schema,
)
from jsonschema import validate

from deployments.backends.huggingface.backend import HuggingFaceBackend
from deployments.errors import (
    InvalidRequest,
)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "seed": 7}])
async def test_even_random_weights_answer_valid_json(
    random_weights: HuggingFaceBackend, sampling: dict[str, Any]
) -> None:
    replies = await asyncio.gather(
        *(
            answer(random_weights, ask(f"Order {i}", response_format=schema(ORDER), **sampling))
            for i in range(4)
        )
    )
    for reply in replies:
        validate(json.loads(reply.text), ORDER)
        assert reply.finish_reason == "stop"


@pytest.mark.parametrize("seed", range(4))
async def test_json_that_the_model_would_never_end_is_closed(
    random_weights: HuggingFaceBackend, seed: int
) -> None:
    endless = {
        "type": "object",
        "properties": {"story": {"type": "string", "minLength": 40}},
        "required": ["story"],
    }
    request = ask(response_format=schema(endless), max_tokens=120, temperature=1.0, seed=seed)
    reply = await answer(random_weights, request)
    validate(json.loads(reply.text), endless)
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("limit", range(9, 15))
async def test_json_is_complete_or_its_finish_reason_is_length(
    random_weights: HuggingFaceBackend, limit: int
) -> None:
    """Also if its last token is the last allowed one: `{"a": true}` takes 11 or 12."""
    short = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    reply = await answer(random_weights, ask(response_format=schema(short), max_tokens=limit))
    try:
        validate(json.loads(reply.text), short)
    except json.JSONDecodeError:
        assert reply.finish_reason == "length"
    else:
        assert reply.finish_reason == "stop"


async def test_a_forced_call_that_is_closed_early_is_a_call(
    random_weights: HuggingFaceBackend,
) -> None:
    text = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
    tools = [{"type": "function", "function": {"name": "say", "parameters": text}}]
    request = ask(tools=tools, tool_choice="required", parallel_tool_calls=False, max_tokens=120)
    reply = await answer(random_weights, request)
    assert [list(arguments) for _, arguments in calls(reply)] == [["x"]]
    assert reply.finish_reason == "tool_calls"


async def test_json_object_is_a_json_object(random_weights: HuggingFaceBackend) -> None:
    request = ask(response_format={"type": "json_object"}, temperature=1.0, seed=3, max_tokens=200)
    assert isinstance(json.loads((await answer(random_weights, request)).text), dict)


async def test_constrained_and_free_requests_share_a_batch(
    random_weights: HuggingFaceBackend,
) -> None:
    free = [ask(f"{i}", max_tokens=60) for i in range(6)]
    constrained = [ask(f"{i}", response_format=schema(ORDER)) for i in range(6)]
    alone = [await answer(random_weights, request) for request in free]
    mixed = await asyncio.gather(
        *(answer(random_weights, request) for request in [*free, *constrained])
    )
    assert mixed[:6] == alone
    for reply in mixed[6:]:
        validate(json.loads(reply.text), ORDER)


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "banana"},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"enum": []},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema"},
        {"not": {"type": "string"}},
        {"type": "string", "pattern": "("},
    ],
)
async def test_impossible_schemas_are_refused_and_the_next_request_works(
    random_weights: HuggingFaceBackend, wanted: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await answer(random_weights, ask(response_format=schema(wanted)))
    assert refused.value.param == "response_format"
    assert (await answer(random_weights, ask(max_tokens=1))).usage is not None
