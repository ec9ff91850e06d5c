"""Promise: a wrong body is rejected with OpenAI's 400 and the field at fault."""

import json
from typing import Any

import pytest

from deployments.backends.tool_names import ToolNames
from deployments.errors import InvalidRequest, UnsupportedParameter
from serve.http.chat.requests import parse

USER = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "auto", "messages": [USER], **fields}).encode()


def schema_body(schema: Any) -> bytes:
    return body(
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    )


def nested(depth: int) -> dict[str, Any]:
    return {"items": nested(depth - 1)} if depth else {"type": 1}


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (b"{", None),
        (b"[]", None),
        (b'"\xff"', None),
        (json.dumps({"messages": [USER]}).encode(), "model"),
        (json.dumps({"model": "m"}).encode(), "messages"),
        (body(messages=[]), "messages"),
        (body(messages="hi"), "messages"),
        (body(messages=[{"role": "robot", "content": "hi"}]), "messages.0"),
        (body(messages=[{"content": "hi"}]), "messages.0"),
        (body(messages=[{"role": "user"}]), "messages.0.content"),
        (body(messages=[{"role": "user", "content": 5}]), "messages.0.content"),
        (body(messages=[{"role": "user", "content": []}]), "messages.0.content"),
        (
            body(messages=[{"role": "user", "content": [{"type": "video"}]}]),
            "messages.0.content.0",
        ),
        (body(max_tokens=-1), "max_tokens"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_tokens=10**400), "max_tokens"),  # no float: nothing could compute with it
        (body(max_completion_tokens=10**400), "max_completion_tokens"),
        (body(top_k=10**400), "top_k"),
        (body(max_completion_tokens="5"), "max_completion_tokens"),
        (body(temperature=3), "temperature"),
        (body(top_p=0), "top_p"),
        (body(n=2), "n"),
        (body(stop=[""]), "stop.0"),
        (body(models=[]), "models"),
        (body(router={"strategy": "magic"}), "router.strategy"),
        (body(tools=[{"type": "function", "function": {}}]), "tools.0.function.name"),
        (body(tools=[{"type": "function", "function": {"name": ""}}]), "tools.0.function.name"),
        (
            body(
                tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": 1}}}]
            ),
            "tools.0.function.parameters",
        ),
        (
            body(
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "s", "schema": {"type": "none"}},
                }
            ),
            "response_format.json_schema.schema",
        ),
        (body(response_format={"type": "xml"}), "response_format"),
        (schema_body({"$schema": []}), "response_format.json_schema.schema"),
        (schema_body({"$schema": 1}), "response_format.json_schema.schema"),
        (schema_body(nested(150)), "response_format.json_schema.schema"),
        (schema_body({"enum": ["x" * 300_000]}), "response_format.json_schema.schema"),
        (body(logit_bias={"1": float("nan")}), None),
        (body()[:-1] + b', "logit_bias": {"1": 1e999}}', "logit_bias.1"),
        (body()[:-1] + b', "chat_template_kwargs": {"a": 1e999}}', "chat_template_kwargs"),
        (body(messages=[{**USER, "contnet": 1}]), "messages.0.contnet"),
        (body(modalities=["audio"]), "modalities.0"),
        (body(top_k=-2), "top_k"),
        (body(top_logprobs=2), "top_logprobs"),
        (body(max_tokens=1, max_completion_tokens=2), "max_tokens"),
        (body(tool_choice="required"), "tool_choice"),
    ],
)
def test_a_wrong_body_names_its_field(wrong: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(wrong)
    assert refusal.value.status == 400
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"tool_choice": "required"}, "needs at least one tool"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "is not one of the tools",
        ),
        ({"tools": [TOOL, TOOL]}, "two tools have the same name"),
    ],
)
def test_a_contradiction_is_reported(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        parse(body(**fields))


def test_an_unknown_parameter_is_rejected_rather_than_dropped() -> None:
    with pytest.raises(UnsupportedParameter) as refusal:
        parse(body(temprature=1))
    assert refusal.value.param == "temprature"


def test_an_answer_can_be_sent_back_unchanged() -> None:
    """Clients append the last answer's whole message object, null fields included."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "assistant", "content": None, "refusal": None, "audio": None}
    result = {"role": "tool", "tool_call_id": "1", "content": "42"}
    chat = parse(body(messages=[USER, {**answer, "tool_calls": [call]}, result])).chat
    assert chat.messages[1] == {"role": "assistant", "content": None, "tool_calls": [call]}


def test_null_means_left_out() -> None:
    fields = {"stop": None, "stream": None, "models": None, "router": None, "tools": None}
    assert parse(body(**fields)).chat.parameters() == {}


def test_a_backend_gets_what_was_asked() -> None:
    parsed = parse(body(temperature=0, max_tokens=3, stop="x", user="u", models=["a"]))
    assert parsed.wishes.models == ["a"]
    assert parsed.chat.parameters() == {
        "temperature": 0,
        "max_tokens": 3,
        "stop": "x",
        "user": "u",
    }
    with pytest.raises(UnsupportedParameter, match="stop"):
        parsed.chat.within({"temperature", "max_tokens"})
    assert parsed.chat.within({"temperature", "max_tokens", "stop"}) == parsed.chat


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1},
        {"modalities": ["text"]},
        {"stop": []},
        {"tools": []},
        {"tools": [], "tool_choice": "auto", "parallel_tool_calls": False},
        {"tool_choice": "none"},
        {"parallel_tool_calls": True},
        {"stream": False, "stream_options": {"include_usage": True}},
        {"stream": True, "stream_options": {"continuous_usage_stats": True}},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"top_logprobs": 0},
        {"prompt_cache_retention": "24h"},
    ],
)
def test_a_field_without_effect_is_no_parameter(fields: dict[str, Any]) -> None:
    assert parse(body(**fields)).chat.parameters() == {}


NEUTRAL = {
    "top_p": 1,
    "top_k": -1,
    "min_p": 0,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "repetition_penalty": 1.0,
    "logit_bias": {},
    "logprobs": False,
    "tools": [TOOL],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "continue_final_message": False,
    "ignore_eos": False,
    "chat_template_kwargs": {},
    "service_tier": "auto",
}


@pytest.mark.parametrize("name", sorted(NEUTRAL.keys() - {"tools"}))
def test_a_neutral_value_is_sent_where_supported_and_dropped_elsewhere(
    name: str,
) -> None:
    chat = parse(body(**{"tools": [TOOL], name: NEUTRAL[name]})).chat
    assert chat.within({"tools", name}).parameters()[name] == NEUTRAL[name]
    assert chat.within({"tools"}).parameters() == {"tools": [TOOL]}
    assert chat.within({"tools", name}, lost={name: "this"}).parameters() == {"tools": [TOOL]}


def test_a_parameter_with_effect_is_rejected_where_unsupported() -> None:
    chat = parse(body(top_k=1, frequency_penalty=0.1, presence_penalty=0, user="u")).chat
    with pytest.raises(UnsupportedParameter) as refusal:
        chat.within(frozenset())
    assert refusal.value.message == (
        "model 'auto' does not support 'top_k' and 'frequency_penalty'; leave them out or ask "
        "another model"
    )
    assert refusal.value.lacking == ("top_k", "frequency_penalty")


def test_top_k_0_and_minus_1_mean_the_same() -> None:
    assert parse(body(top_k=0)).chat.top_k == parse(body(top_k=-1)).chat.top_k == -1


def test_a_tool_result_may_name_its_tool() -> None:
    """Agents send it so; providers get the name from the call only."""
    result = {"role": "tool", "tool_call_id": "1", "content": "42", "name": "f"}
    chat = parse(body(messages=[USER, result])).chat
    assert "name" not in ToolNames.of(chat).messages(chat)[1]


HOSTS = ["api_base", "base_url", "hostname", "api_key", "api_version", "extra_headers"]
HOSTS += ["extra_body", "extra_query", "custom_llm_provider", "headers", "organization", "timeout"]


@pytest.mark.parametrize("field", HOSTS)
def test_a_request_cannot_choose_a_host_or_a_key(field: str) -> None:
    """Not anywhere in it: LiteLLM would take such a field as its own."""
    evil = {field: "http://evil.example"}
    part = {"type": "text", "text": "hi"}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", **evil}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    for wrong in (
        body(**evil),
        body(router=evil),
        body(stream=True, stream_options=evil),
        body(messages=[{**USER, **evil}]),
        body(messages=[{"role": "user", "content": [{**part, **evil}]}]),
        body(messages=[{"role": "user", "content": [image]}]),
        body(messages=[{"role": "system", "content": "hi", **evil}]),
        body(messages=[{"role": "tool", "tool_call_id": "1", "content": "hi", **evil}]),
        body(tools=[{**TOOL, **evil}]),
        body(tools=[{"type": "function", "function": {"name": "f", **evil}}]),
        body(response_format={"type": "json_object", **evil}),
    ):
        with pytest.raises(UnsupportedParameter) as refusal:
            parse(wrong)
        assert str(refusal.value.param).endswith(field)
    # Unknown fields of an answer that a client sends back are dropped.
    answer = {"role": "assistant", "content": "hi", "tool_calls": [{**call, **evil}], **evil}
    assert "evil" not in parse(body(messages=[USER, answer])).chat.model_dump_json()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "gs://b/o", "s3://b/o", "ftp://h", "x.png"])
def test_an_image_cannot_be_a_file_of_the_servers(url: str) -> None:
    image = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(InvalidRequest, match="data:, https: or http:"):
        parse(body(messages=[{"role": "user", "content": [image]}]))


@pytest.mark.parametrize("where", ["pattern", "patternProperties"])
def test_a_pattern_that_python_cannot_compile_is_rejected(where: str) -> None:
    pattern = "a{99999999999999999999}"
    value = pattern if where == "pattern" else {pattern: {}}
    with pytest.raises(InvalidRequest, match="not a valid JSON schema"):
        parse(schema_body({where: value}))
