"""Promise: tools and formats reach models whose chat template doesn't support them."""

import json
from typing import Any

import pytest

from deployments.backends.huggingface.tools import offered_tools
from deployments.backends.huggingface.turns import (
    native_turns,
    plain_turns,
    without_system,
)
from deployments.contract import ChatRequest
from deployments.errors import UnsupportedParameter

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
USER = {"role": "user", "content": "How is Paris?"}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
}
HISTORY = [
    USER,
    {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "user", "content": "And now?"},
]


def ask(messages: list[Any] | None = None, **fields: Any) -> ChatRequest:
    return ChatRequest(model="m", messages=messages or [USER], **fields)


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def test_tools_are_described_in_the_system_turn() -> None:
    system = {"role": "system", "content": "Be kind."}
    turns = plain_turns(ask([system, USER], tools=[WEATHER, CLOCK]))
    assert [turn["role"] for turn in turns] == ["system", "user"]
    assert turns[0]["content"].startswith("Be kind.\n\n")
    assert json.dumps(WEATHER["function"]) in turns[0]["content"]
    assert "clock" in turns[0]["content"]


def test_without_instructions_the_messages_are_unchanged() -> None:
    assert plain_turns(ask()) == native_turns(ask()) == [USER]


@pytest.mark.parametrize(
    ("choice", "offered"),
    [
        (None, ["weather", "clock"]),
        ("auto", ["weather", "clock"]),
        ("required", ["weather", "clock"]),
        ("none", []),
        (named("clock"), ["clock"]),
    ],
)
def test_tool_choice_decides_what_is_offered(choice: Any, offered: list[str]) -> None:
    request = ask(tools=[WEATHER, CLOCK], tool_choice=choice)
    assert [tool["function"]["name"] for tool in offered_tools(request)] == offered
    system = json.dumps(plain_turns(request))
    assert ("weather" in system) == ("weather" in offered)


def test_calls_and_results_become_text() -> None:
    assert plain_turns(ask(HISTORY)) == [
        USER,
        {
            "role": "assistant",
            "content": 'I look.\n[{"name": "weather", "arguments": {"city": "Paris"}}]',
        },
        {"role": "user", "content": "Result of weather: sunny\n\nAnd now?"},
    ]


def test_a_template_with_tools_receives_calls_and_results() -> None:
    _, assistant, tool, _ = native_turns(ask(HISTORY, tools=[WEATHER]))
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"city": "Paris"}
    assert (tool["role"], tool["name"], tool["content"]) == ("tool", "weather", "sunny")


@pytest.mark.parametrize(
    "arguments",
    ["Paris", "[" * 100_000, "9" * 5000, '{"city": "\\ud83d"}'],
    ids=["no JSON", "too deep", "too long a number", "half a surrogate pair"],
)
def test_invalid_arguments_are_shown_verbatim(arguments: str) -> None:
    broken = {**CALL, "function": {"name": "weather", "arguments": arguments}}
    request = ask([USER, {"role": "assistant", "tool_calls": [broken]}])
    assert native_turns(request)[1]["tool_calls"][0]["function"]["arguments"] == arguments
    assert json.dumps(arguments) in plain_turns(request)[1]["content"]


def test_every_template_receives_the_schema() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "integer"}}}
    for turns in (native_turns, plain_turns):
        assert '{"type": "integer"}' in turns(ask(response_format=wanted))[0]["content"]
        assert "JSON object" in turns(ask(response_format={"type": "json_object"}))[0]["content"]


def test_developer_messages_are_system_messages_and_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    messages = [{"role": "developer", "content": parts}, {"role": "user", "content": parts}]
    assert [turn["role"] for turn in plain_turns(ask(messages))] == ["system", "user"]
    assert {turn["content"] for turn in plain_turns(ask(messages))} == {"one\ntwo"}


def test_images_are_refused() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    with pytest.raises(UnsupportedParameter) as refused:
        plain_turns(ask([{"role": "user", "content": [image]}]))
    assert refused.value.param == "messages"


def test_without_a_system_role_the_first_user_message_has_its_text() -> None:
    turns = [{"role": "system", "content": "Be kind."}, USER]
    assert without_system(turns) == [{"role": "user", "content": "Be kind.\n\nHow is Paris?"}]
    assert without_system(turns[:1]) == [{"role": "user", "content": "Be kind."}]
