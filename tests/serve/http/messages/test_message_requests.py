"""Promise: every field of a message's request reaches the model or is refused by name."""

import json
from typing import Any

import pytest

from deployments.errors import InvalidRequest, UnsupportedParameter
from deployments.extras import ANTHROPIC_PARAMETERS, CACHED_TOOLS
from serve.http.messages.requests import parse, parse_prompt
from serve.request import Request

TOOL = {"name": "f", "input_schema": {"type": "object"}}
SHORT = {"type": "ephemeral"}


def read(content: Any = "Hello", **fields: Any) -> Request:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": content}]}
    return parse(json.dumps({**body, **fields}).encode())


def refusal(*content: Any, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        read(*content, **fields)
    return raised.value


def test_parameters_have_other_names_in_the_contract() -> None:
    chat = read(
        stream=True,
        stop_sequences=["a", "b"],
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        metadata={"user_id": "u"},
        service_tier="standard_only",
        tools=[{**TOOL, "strict": True, "type": "custom", "description": "d"}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": {}}},
    ).chat
    assert chat.stream
    assert chat.parameters() == {
        "max_tokens": 9,
        "stop": ["a", "b"],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "user": "u",
        "service_tier": "default",
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": {}, "strict": True},
        },
        "reasoning_effort": "xhigh",
    }
    assert chat.extra[ANTHROPIC_PARAMETERS] == {"thinking": None, "reasoning_effort": "max"}


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_tool_choices(choice: Any, chosen: Any) -> None:
    assert read(tools=[TOOL], tool_choice=choice).chat.tool_choice == chosen


@pytest.mark.parametrize(("budget", "effort"), [(1024, "low"), (5000, "medium"), (31_999, "high")])
def test_a_budget_of_thinking_is_an_effort_elsewhere(budget: int, effort: str) -> None:
    thinking = {"type": "enabled", "budget_tokens": budget}
    chat = read(thinking=thinking).chat
    assert chat.reasoning_effort == effort
    assert chat.extra[ANTHROPIC_PARAMETERS] == {"thinking": thinking, "reasoning_effort": None}


@pytest.mark.parametrize("kind", ["adaptive", "disabled"])
def test_other_thinking_is_left_to_the_model(kind: str) -> None:
    chat = read(thinking={"type": kind}).chat
    assert chat.reasoning_effort is None
    assert chat.extra[ANTHROPIC_PARAMETERS]["thinking"] == {"type": kind}


def test_null_counts_as_left_out() -> None:
    names = "system tools tool_choice thinking stop_sequences temperature models router container"
    request = read(**dict.fromkeys(names.split()))
    assert request.chat.parameters() == {"max_tokens": 9}
    assert not request.chat.extra


def test_what_asks_for_nothing_is_accepted() -> None:
    keep = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    tool = {**TOOL, "defer_loading": False, "allowed_callers": ["direct"]}
    assert read(output_config={"effort": "high"}).chat.parameters() == {"max_tokens": 9}
    read(context_management=keep, mcp_servers=[], speed="standard", tools=[tool])


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"container": "c"}, "container", "runs no code"),
        ({"mcp_servers": [{"name": "m"}]}, "mcp_servers", "let your client call them"),
        (
            {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
            "context_management",
            "edits no prompts",
        ),
        (
            {"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]},
            "tools.1.type",
            "only Anthropic's servers and models know this tool",
        ),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools.0.defer_loading", ""),
        ({"unknown": 1}, "unknown", "not a parameter of this server"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"temperature": 1.5}, "temperature", "less than or equal to 1"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema", "is missing"),
        ({"tools": [{**TOOL, "input_schema": {"type": 5}}]}, "tools.0.input_schema", "schema"),
        ({"tools": [TOOL, TOOL]}, "tools", "same name"),
        ({"tool_choice": {"type": "tool", "name": "g"}, "tools": [TOOL]}, "tool_choice", "'g'"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": 5}}}},
            "output_config.format.schema",
            "not a valid JSON schema",
        ),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, "thinking.budget_tokens", ""),
    ],
)
def test_what_is_not_supported_is_refused_by_name(
    fields: dict[str, Any], param: str, said: str
) -> None:
    error = refusal(**fields)
    assert error.param == param
    assert said in error.message


def block(type: str, **fields: Any) -> dict[str, Any]:
    return {"type": type, **fields}


PDF = block("base64", media_type="application/pdf", data="JVBERi0=")
FILE = block("url", url="file:///etc/passwd")


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        (block("document", source=PDF), "messages.0.content.0.source.media_type"),
        (block("document", source=block("url", url="https://x")), "messages.0.content.0.source"),
        (block("server_tool_use", id="1", name="n", input={}), "messages.0.content.0"),
        (block("text", text="a", unknown=1), "messages.0.content.0.unknown"),
        (
            block("document", source=block("base64", media_type="text/plain", data="/w==")),
            "messages.0.content.0.source.data",
        ),
        (
            block("tool_result", tool_use_id="1", content=[block("document", source=PDF)]),
            "messages.0.content.0.content.0.source.media_type",
        ),
        (
            block("tool_result", tool_use_id="1", content=[block("image", source=FILE)]),
            "messages.0.content.0.content.0.source.url",
        ),
    ],
)
def test_blocks_that_no_model_gets_are_refused(wrong: dict[str, Any], param: str) -> None:
    assert refusal([wrong]).param == param


@pytest.mark.parametrize(
    "source",
    [
        block("text", media_type="text/plain", data="Notes"),
        block("base64", media_type="text/plain", data="Tm90ZXM="),
        block("content", content=[block("text", text="Notes")]),
        block("content", content="Notes"),
    ],
)
def test_a_document_of_text_is_text(source: dict[str, Any]) -> None:
    document = block("document", source=source, title="T", cache_control=SHORT)
    assert read([document]).chat.messages[0]["content"] == [
        {"type": "text", "text": "T\n\nNotes", "cache_control": SHORT}
    ]


def test_an_image_by_url_is_passed_on_to_be_refused_where_nothing_is_fetched() -> None:
    chat = read([block("image", source=block("url", url="https://example.com/a.png"))]).chat
    assert chat.remote_image == "messages.0.content.0.image_url.url"


def test_marks_for_the_cache_are_kept() -> None:
    chat = read(
        [block("text", text="a", cache_control=SHORT)],
        system=[block("text", text="s", cache_control=SHORT)],
        tools=[TOOL, {**TOOL, "name": "g", "cache_control": SHORT}],
    ).chat
    assert [message["content"] for message in chat.messages] == [
        [{"type": "text", "text": "s", "cache_control": SHORT}],
        [{"type": "text", "text": "a", "cache_control": SHORT}],
    ]
    assert chat.extra[CACHED_TOOLS] == {1: SHORT}


def test_a_number_that_could_not_be_sent_on_is_refused() -> None:
    """A provider's library would fail with it, which would count as the model's failure."""
    body = (
        b'{"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": ['
        b'{"type": "text", "text": "a", "cache_control": {"ttl": 1e400}}]}]}'
    )
    with pytest.raises(InvalidRequest, match="not JSON compliant") as raised:
        parse(body)
    assert raised.value.param == "messages.0.content.0.cache_control"


def test_a_mark_on_the_request_is_on_its_last_part() -> None:
    chat = read("Hello", cache_control=SHORT).chat
    assert chat.messages[-1]["content"] == [
        {"type": "text", "text": "Hello", "cache_control": SHORT}
    ]


def test_examples_of_input_are_part_of_the_schema() -> None:
    tools = read(tools=[{**TOOL, "input_examples": [{"a": 1}]}]).chat.tools
    assert tools is not None
    assert tools[0]["function"]["parameters"] == {"type": "object", "examples": [{"a": 1}]}


def test_a_last_message_of_the_assistant_is_the_beginning_of_the_answer() -> None:
    texts = [block("text", text="The answer "), block("text", text="is")]
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": texts}]
    chat = read(messages=messages).chat
    assert chat.continue_final_message
    assert chat.messages[-1]["content"] == "The answer is"


def test_a_prompt_to_count_needs_no_limit_and_has_no_parameters() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], "system": "s"}
    assert len(parse_prompt(json.dumps(body).encode()).chat.messages) == 2
    with pytest.raises(UnsupportedParameter, match="max_tokens"):
        parse_prompt(json.dumps({**body, "max_tokens": 9}).encode())
