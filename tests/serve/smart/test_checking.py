"""Promise: what isn't the JSON or the call that was asked for fails, and no schema takes long."""

from typing import Any

import pytest
from asking import ask

from deployments.contract import Chunk, ToolCallDelta
from serve.smart import checking as module
from serve.smart.checking import is_checkable, passes

NUMBER = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def by_schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


def of_schema(schema: dict[str, Any], text: str) -> bool | None:
    return passes(ask(response_format=by_schema(schema)), Chunk(text=text))


@pytest.mark.parametrize(
    ("format", "text", "passed"),
    [
        ({"type": "json_object"}, ' {"n": 1}\n', True),
        ({"type": "json_object"}, "[1]", False),
        ({"type": "json_object"}, '```json\n{"n": 1}\n```', False),
        ({"type": "json_object"}, '{"n": NaN}', False),
        ({"type": "json_object"}, "", False),
        (by_schema(NUMBER), '{"n": 1}', True),
        (by_schema(NUMBER), '{"n": "1"}', False),
        (by_schema(NUMBER), "[" * 10_000, False),
        (by_schema({**NUMBER, "$schema": "http://json-schema.org/draft-07/schema#"}), "{}", False),
        ({"type": "json_schema", "json_schema": {"name": "any"}}, "1", True),
        ({"type": "text"}, "{", None),
    ],
)
def test_json_passes_if_it_is_what_was_asked_for(
    format: dict[str, Any], text: str, passed: bool | None
) -> None:
    assert passes(ask(response_format=format), Chunk(text=text)) is passed


@pytest.mark.parametrize(
    ("name", "arguments", "passed"),
    [
        ("weather", '{"city": "Rome"}', True),
        ("weather", "", True),
        ("weather", '{"city": ', False),
        ("weather", '"Rome"', False),
        ("whether", "{}", False),
    ],
)
def test_a_call_passes_if_its_tool_exists_and_its_arguments_can_be_read(
    name: str, arguments: str, passed: bool
) -> None:
    right = ToolCallDelta(0, "a", "weather", "{}")
    answer = Chunk(tool_calls=(right, ToolCallDelta(1, "b", name, arguments)))
    assert passes(ask(tools=[TOOL]), answer) is passed


def test_text_beside_tools_that_were_not_called_is_not_checked() -> None:
    assert passes(ask(tools=[TOOL]), Chunk(text="It rains.")) is None


def test_only_answers_of_a_form_for_programs_are_checkable() -> None:
    assert is_checkable(ask(tools=[TOOL]))
    assert is_checkable(ask(response_format={"type": "json_object"}))
    assert not is_checkable(ask())
    assert not is_checkable(ask(tools=[TOOL], tool_choice="none"))


TWICE = [{"properties": {"a": {"$ref": "#"}}, "required": [name]} for name in ("b", "c")]


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": TWICE},  # 2^50 ways through what is asked below
        {"properties": {"a": {"pattern": "^(x+)+$"}}},
        {"properties": {"a": {"uniqueItems": True}}},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#"},
        {"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}},
        {"type": "no such type"},
    ],
    ids=["branches", "expression", "unique", "remote", "endless", "another draft", "invalid"],
)
def test_of_a_schema_that_cant_be_checked_in_bounded_steps_nothing_is_known(
    schema: dict[str, Any],
) -> None:
    assert of_schema(schema, '{"a": ' * 50 + "{}" + "}" * 50) is None


def test_what_a_schema_refers_to_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[object] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda request: fetched.append(request))
    assert of_schema({"$ref": "http://127.0.0.1:9/schema.json"}, "{}") is None
    assert fetched == []


def test_of_a_longer_answer_than_is_checked_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MOST_CHARACTERS", 5)
    assert of_schema({}, "[1,2]") is True
    assert of_schema({}, "[1,22]") is None


def test_steps_are_counted_for_each_answer_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_STEPS", 5)
    assert [of_schema(NUMBER, '{"n": 1}') for _ in range(3)] == [True] * 3
