"""Promise: a request for a response becomes the chat that it asks for, or names its field."""

import json
from typing import Any

import pytest

from deployments.errors import InvalidRequest, UnsupportedParameter
from serve.http.responses.reasoning import seal
from serve.http.responses.requests import ResponsesRequest, parse

USER = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}
OTHER = {"type": "function", "name": "g", "description": None, "parameters": None}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "42"}
IMAGE = {"type": "input_image", "detail": "low", "image_url": "data:image/png;base64,AA=="}


def parsed(**fields: Any) -> ResponsesRequest:
    return parse(json.dumps({"model": "auto", "input": "Hi", **fields}).encode())


def messages(*items: Any, **fields: Any) -> list[Any]:
    return parsed(input=list(items), **fields).chat.messages


def said(**fields: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", **fields}


def text(of: str) -> dict[str, Any]:
    return {"type": "output_text", "text": of, "annotations": [], "logprobs": []}


# --- parameters ---


def test_a_text_is_the_users_message_after_the_instructions() -> None:
    assert parsed(instructions="Be brief.").chat.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


def test_parameters_have_their_names_in_a_chat() -> None:
    request = parsed(
        max_output_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=2,
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        reasoning={"effort": "high", "summary": "auto"},
        tools=[TOOL, OTHER],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        user="u",
        metadata={"a": "b"},
        safety_identifier="s",
        prompt_cache_key="k",
        service_tier="flex",
        models=["a"],
        router={"strategy": "sequential"},
    )
    assert request.wishes.models == ["a"]
    assert request.wishes.router.strategy == "sequential"
    function = {key: value for key, value in TOOL.items() if key != "type"}
    assert request.chat.parameters() == {
        "max_completion_tokens": 7,
        "temperature": 0.5,
        "top_p": 0.9,
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {"type": "json_object"},
        "verbosity": "low",
        "reasoning_effort": "high",
        "tools": [
            {"type": "function", "function": function},
            {"type": "function", "function": {"name": "g"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "user": "u",
        "metadata": {"a": "b"},
        "safety_identifier": "s",
        "prompt_cache_key": "k",
        "service_tier": "flex",
    }


def test_a_schema_is_the_chats_response_format() -> None:
    schema = {"name": "s", "schema": {"type": "object"}, "strict": True}
    format = {"type": "json_schema", **schema, "description": None}
    assert parsed(text={"format": format}).chat.response_format == {
        "type": "json_schema",
        "json_schema": schema,
    }


def test_of_allowed_tools_the_model_gets_no_others() -> None:
    only = [{"type": "function", "name": "g"}]
    choice = {"type": "allowed_tools", "mode": "required", "tools": only}
    request = parsed(tools=[TOOL, OTHER], tool_choice=choice)
    assert request.chat.tools == [{"type": "function", "function": {"name": "g"}}]
    assert request.chat.tool_choice == "required"
    assert request.asked["tool_choice"] == choice
    assert len(request.asked["tools"]) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"store": True},
        {"store": False, "include": ["reasoning.encrypted_content"]},
        {"background": False, "truncation": "disabled"},
        {"previous_response_id": None, "conversation": None, "prompt": None, "tools": None},
        {"stream": None, "models": None, "router": None, "text": {"format": None}},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "max_tool_calls": 3},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"top_logprobs": 0, "include": []},
        {"reasoning": {"effort": None, "summary": "detailed"}},
    ],
)
def test_what_asks_a_model_for_nothing_is_no_parameter(fields: dict[str, Any]) -> None:
    """`store: true` among it: a provider must not store what the reply says isn't."""
    assert parsed(**fields).chat.parameters() == {}


def test_logprobs_can_be_asked_for_without_alternatives() -> None:
    chat = parsed(include=["message.output_text.logprobs"]).chat
    assert (chat.logprobs, chat.top_logprobs) == (True, None)


# --- what is refused ---


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "whole conversation in `in"),
        ({"conversation": "conv_1"}, "conversation", "whole conversation in `input`"),
        ({"prompt": {"id": "p"}}, "prompt", "`instructions` and `input`"),
        ({"background": True}, "background", "use `stream`"),
        ({"truncation": "auto"}, "truncation", "nothing is dropped"),
        ({"include": ["something"]}, "include.0", "reasoning.encrypted_content"),
        ({"tools": [TOOL, {"type": "web_search"}]}, "tools.1", "'web_search' runs at OpenAI"),
        ({"tools": [{"type": "custom", "name": "c"}]}, "tools.0", "'custom'"),
        ({"tool_choice": {"type": "mcp", "server_label": "m"}}, "tool_choice.type", "'function'"),
        ({"temprature": 1}, "temprature", "leave it out"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input.0", "`store: false`"),
        ({"input": [USER, {"type": "computer_call"}]}, "input.1", "'computer_call'"),
        ({"input": [USER, OUTPUT]}, "input.1.call_id", "nothing is stored here"),
        (
            {"input": [{"role": "user", "content": [{**IMAGE, "file_id": "file_1"}]}]},
            "input.0.content.0.file_id",
            "no files are stored",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input.0.content.0.image_url",
            "missing",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "input.0.content.0",
            "'input_text', 'input_image'",
        ),
    ],
)
def test_what_this_server_lacks_is_refused_with_what_to_do(
    fields: dict[str, Any], param: str, says: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parsed(**fields)
    assert refusal.value.param == param
    assert says in refusal.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": ["Hi"]}, "input.0"),
        ({"input": [{"role": "robot", "content": "Hi"}]}, "input.0.role"),
        ({"input": [{**USER, "contnet": 1}]}, "input.0.contnet"),
        ({"input": [{**CALL, "arguments": {}}]}, "input.0.arguments"),
        (
            {"input": [CALL, {**OUTPUT, "output": [{"type": "input_image"}]}]},
            "input.1.output.0.type",
        ),
        ({"model": ""}, "model"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "s"}}}, "text.format.schema"),
        (
            {"text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": 1}}}},
            "text.format.schema",
        ),
        ({"tools": [{**TOOL, "name": ""}]}, "tools.0.name"),
        ({"tools": [{**TOOL, "parameters": {"type": 1}}]}, "tools.0.parameters"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        (
            {
                "tools": [TOOL],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "g"}],
                },
            },
            "tool_choice.tools",
        ),
        ({"input": [said(content="x"), {**OUTPUT, "call_id": ""}]}, "input.1.call_id"),
        ({"models": []}, "models"),
        ({"router": {"strategy": "magic"}}, "router.strategy"),
    ],
)
def test_a_wrong_body_names_its_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parsed(**fields)
    assert refusal.value.param == param
    assert "messages" not in refusal.value.message


def test_an_unknown_parameter_is_not_dropped() -> None:
    with pytest.raises(UnsupportedParameter):
        parsed(frequency_penalty=1)


# --- items ---


def test_a_models_turn_is_one_message_however_many_items_it_has() -> None:
    second = {**CALL, "call_id": "d", "name": "g", "id": "fc_1", "status": "completed"}
    turn = [
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        said(id="msg_1", status="completed", content=[text("Let me see.")]),
        *(CALL, second),
    ]
    function = {"name": "f", "arguments": "{}"}
    assert messages(USER, *turn, OUTPUT, {**OUTPUT, "call_id": "d"}) == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Let me see.",
            "reasoning_content": "Hm.",
            "tool_calls": [
                {"id": "c", "type": "function", "function": function},
                {"id": "d", "type": "function", "function": {**function, "name": "g"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "tool", "tool_call_id": "d", "content": "42"},
    ]


def test_calls_without_text_have_none() -> None:
    assert messages(USER, CALL, OUTPUT)[1]["content"] is None


def test_turns_are_told_apart_by_what_lies_between() -> None:
    roles = [
        message["role"] for message in messages(USER, CALL, OUTPUT, CALL, OUTPUT, said(content="x"))
    ]
    assert roles == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hi", "Hi"),
        ([text("Hi")], "Hi"),
        (
            [text("Hi"), text("you")],
            [{"type": "text", "text": "Hi"}, {"type": "text", "text": "you"}],
        ),
        ([{"type": "refusal", "refusal": "No."}], "No."),
        ([{"type": "input_text", "text": "Hi"}], "Hi"),
    ],
)
def test_what_a_model_said_comes_back_to_it(content: Any, expected: Any) -> None:
    assert messages(USER, said(content=content, phase="final_answer"))[1]["content"] == expected


def test_texts_and_images_keep_their_order() -> None:
    content = [
        {"type": "input_text", "text": "What is"},
        IMAGE,
        {"type": "input_text", "text": "?"},
    ]
    assert messages({"type": "message", "role": "user", "content": content}) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is"},
                {"type": "image_url", "image_url": {"url": IMAGE["image_url"], "detail": "low"}},
                {"type": "text", "text": "?"},
            ],
        }
    ]


def test_a_calls_output_may_have_parts() -> None:
    parts = [{"type": "input_text", "text": "4"}, {"type": "input_text", "text": "2"}]
    assert messages(USER, CALL, {**OUTPUT, "output": parts, "status": None})[2]["content"] == [
        {"type": "text", "text": "4"},
        {"type": "text", "text": "2"},
    ]


SUMMARY = [{"type": "summary_text", "text": "short"}]
CONTENT = [{"type": "reasoning_text", "text": "long"}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"summary": SUMMARY}, "short"),
        ({"summary": SUMMARY, "content": CONTENT}, "long"),
        ({"summary": [], "content": None, "encrypted_content": seal("sealed")}, "sealed"),
        ({"summary": SUMMARY * 2}, "short\n\nshort"),
    ],
)
def test_reasoning_comes_back_by_whatever_a_client_kept(
    fields: dict[str, Any], expected: str
) -> None:
    item = {"type": "reasoning", "id": "rs_1", **fields}
    assert messages(USER, item, said(content="x"))[1]["reasoning_content"] == expected


# Small as a body, but costly to read.
CROWDED = seal("x", [{"type": "redacted_thinking", "data": ""}] * 5000)


@pytest.mark.parametrize(
    "sealed",
    ["gAAAAABo", seal("x")[:-3], "llm-cores:W10=", "llm-cores:é", CROWDED],
    ids=["another's", "cut off", "made up", "not base64", "crowded"],
)
def test_what_this_server_has_not_sealed_is_ignored(sealed: str) -> None:
    item = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed}
    assert messages(USER, item, said(content="x"))[1:] == [{"role": "assistant", "content": "x"}]
