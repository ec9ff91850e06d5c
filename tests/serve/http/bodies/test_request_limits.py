"""Promise: whatever a body holds, reading it and explaining what is wrong with it stay cheap."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from deployments.errors import InvalidRequest, RequestTooLarge
from serve.http.batches import Batch
from serve.http.bodies.fields import parse_as
from serve.http.chat.requests import parse
from serve.http.schemas import Feedback

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [USER], **fields}).encode()


def schema_body(schema: Any) -> bytes:
    return body(
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    )


LONG = {"a" * 65: "b"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [USER] * 4097}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 1025}]},
            "messages.0.content",
        ),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": "x" * 257}, "stop"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a"),
        ({"metadata": LONG}, "metadata." + "a" * 65),
        ({"logit_bias": {str(n): 1.0 for n in range(1025)}}, "logit_bias"),
        ({"user": "x" * 513}, "user"),
        ({"models": ["x"] * 1001}, "models"),
        ({"models": ["x" * 201]}, "models.0"),
        ({"model": "x" * 201}, "model"),
    ],
)
def test_everything_has_a_limit(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(body(**fields))
    assert refusal.value.param == param


def test_a_schema_has_a_limit_of_levels() -> None:
    def deep(levels: int) -> dict[str, Any]:
        return {"items": deep(levels - 1)} if levels else {"type": "string"}

    assert parse(schema_body(deep(63)))
    with pytest.raises(InvalidRequest, match="64 levels deep"):
        parse(schema_body(deep(64)))
    with pytest.raises(InvalidRequest, match="64 levels deep"):
        parse(body(tools=[{"type": "function", "function": {"name": "f", "parameters": deep(64)}}]))


def test_an_error_does_not_repeat_long_input() -> None:
    long = "x" * 100_000
    for wrong in (
        body(**{long: 1}),
        body(messages=[{"role": long}]),
        body(tools=[{"type": long}]),
        body(metadata={long: long}),
        schema_body({"type": long}),
    ):
        with pytest.raises(InvalidRequest) as refusal:
            parse(wrong)
        assert len(refusal.value.message) + len(refusal.value.param or "") < 2000


def _doubling(levels: int) -> dict[str, Any]:
    """Written out, each level contains the next one twice."""
    twice = {
        f"d{n}": {"properties": {c: {"$ref": f"#/$defs/d{n + 1}"} for c in "ab"}}
        for n in range(levels)
    }
    return {"$defs": {**twice, f"d{levels}": {"type": "string"}}, "$ref": "#/$defs/d0"}


def _each_within_each(names: int) -> dict[str, Any]:
    """Written out without repeating a name, it contains the names in every order."""
    return {
        "$defs": {
            f"d{n}": {"anyOf": [{"$ref": f"elsewhere/d{m}"} for m in range(names) if m != n]}
            for n in range(names)
        },
        "$ref": "#/$defs/d0",
    }


@pytest.mark.parametrize(
    "schema",
    [{"allOf": [{}] * 5000}, _doubling(22), _each_within_each(9)],
    ids=["many parts", "doubling", "each within each"],
)
def test_a_small_schema_that_expands_too_far_is_rejected(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="5000 parts"):
        parse(schema_body(schema))


def test_a_schema_may_refer_to_itself() -> None:
    tree = {"properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}}}
    assert parse(schema_body({"$defs": {"tree": tree}, "$ref": "#/$defs/tree"}))
    assert parse(schema_body(_doubling(5)))


@pytest.mark.parametrize(
    "field",
    [
        '"chat_template_kwargs": {"a": [%s]}',
        '"metadata": {"a": [%s]}',
        '"logit_bias": {"a": [%s]}',
        '"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [%s]}}}]',
        '"unknown": [%s]',
    ],
)
def test_a_body_with_too_many_values_is_rejected_before_it_is_decoded(
    field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: Any, **__: Any) -> None:
        raise AssertionError("decoding this would block the event loop for seconds")

    monkeypatch.setattr("pydantic_core.from_json", decode)
    many = ",".join(['{"a":1}'] * 1_000_000)
    with pytest.raises(RequestTooLarge, match="100,000 values"):
        parse(body()[:-1] + f", {field % many}}}".encode())
    with pytest.raises(RequestTooLarge):
        parse_as(Feedback, b'{"id": "x", "score": [%s]}' % many.encode())
    with pytest.raises(RequestTooLarge):
        parse_as(Batch, b'{"queries": ["a"], "models": [%s]}' % many.encode())


def test_a_long_text_is_one_value() -> None:
    code = '{"a": [1, 2, "\\n"]},' * 100_000
    assert parse(body(messages=[{"role": "user", "content": code}]))
    assert parse(body(messages=[{"role": "user", "content": code[:4000]}] * 4096))


MANY, DEEP = {"a": [1] * 20_000}, json.loads('{"a":' * 65 + "1" + "}" * 65)


@pytest.mark.parametrize("value", [MANY, DEEP], ids=["many", "deep"])
@pytest.mark.parametrize(
    ("field", "place"),
    [
        (lambda value: {"chat_template_kwargs": value}, "chat_template_kwargs"),
        (
            lambda value: {
                "tools": [{"type": "function", "function": {"name": "f", "parameters": value}}]
            },
            "tools.0.function.parameters",
        ),
        (
            lambda value: {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "s", "schema": value},
                }
            },
            "response_format.json_schema.schema",
        ),
        (
            lambda value: {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a", "cache_control": value}],
                    }
                ]
            },
            "messages.0.content.0.cache_control",
        ),
    ],
    ids=["chat_template_kwargs", "parameters", "schema", "cache_control"],
)
def test_free_form_fields_are_bounded(
    field: Callable[[Any], dict[str, Any]], place: str, value: Any
) -> None:
    with pytest.raises(InvalidRequest, match=r"20000 values|64 levels deep") as refusal:
        parse(body(**field(value)))
    assert refusal.value.param == place
