"""From the bytes of a body to a request."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, LLMError
from deployments.extras import THINKING_BLOCKS
from serve.http.bodies.fields import check_schemas, explain, fields_of
from serve.http.responses.body import ResponsesBody, refuse_what_is_lacking
from serve.http.responses.errors import in_our_words
from serve.http.responses.messages import messages_of
from serve.request import Request, RouterOptions, RoutingWishes

Json = dict[str, Any]

_LOGPROBS = "message.output_text.logprobs"
_SEALED = "reasoning.encrypted_content"
# The fields that a chat request has by the same name.
_SAME = (
    *("model", "temperature", "top_p", "parallel_tool_calls", "user", "metadata"),
    *("safety_identifier", "prompt_cache_key", "prompt_cache_retention", "service_tier"),
)


@dataclass(frozen=True, slots=True)
class ResponsesRequest(Request):
    """A request for a response.

    Attributes:
        asked: its fields that the reply repeats.
        seals_reasoning: whether items of reasoning are to have `encrypted_content`.
    """

    asked: Mapping[str, Any] = field(default_factory=dict)
    seals_reasoning: bool = False


def parse(body: bytes) -> ResponsesRequest:
    """Reads the body of `POST /v1/responses`.

    Raises:
        InvalidRequest: with the field at fault in `param`.
    """
    # OpenAI's clients send null for fields that are left out.
    fields = {key: value for key, value in fields_of(body).items() if value is not None}
    refuse_what_is_lacking(fields)
    try:
        asked = ResponsesBody.model_validate(fields)
    except ValidationError as error:
        raise explain(error, fields) from None
    include = asked.include or []
    items: Any = asked.input
    messages, thoughts = messages_of(asked.instructions, items)
    try:
        chat = _checked(_chat(asked, messages))
    except LLMError as error:
        raise in_our_words(error) from None
    if thoughts:
        chat = chat.with_extra(**{THINKING_BLOCKS: thoughts})
    wishes = RoutingWishes(models=asked.models, router=asked.router or RouterOptions())
    id = f"resp_{secrets.token_hex(16)}"
    return ResponsesRequest(chat, wishes, id, _repeated(asked), _SEALED in include)


def _checked(written: Json) -> ChatRequest:
    try:
        chat = ChatRequest.model_validate(written)
    except ValidationError as error:
        raise explain(error, written) from None
    check_schemas(chat)
    return chat


def _chat(asked: ResponsesBody, messages: list[Json]) -> Json:
    """The fields of the chat request."""
    text, reasoning = asked.text or {}, asked.reasoning or {}
    tools, choice = _tools(asked)
    # Alternatives alone ask for logprobs; none of them, for nothing.
    logprobs = _LOGPROBS in (asked.include or []) or bool(asked.top_logprobs)
    fields = {
        **{name: getattr(asked, name) for name in _SAME},
        "messages": messages,
        "stream": bool(asked.stream),
        "max_completion_tokens": asked.max_output_tokens,
        "logprobs": logprobs or None,
        "top_logprobs": asked.top_logprobs if logprobs else None,
        "response_format": _format(text.get("format")),
        "verbosity": text.get("verbosity"),
        "reasoning_effort": reasoning.get("effort"),
        "tools": tools,
        "tool_choice": choice,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _tools(asked: ResponsesBody) -> tuple[list[Json] | None, Any]:
    """The chat's tools and its choice of them. Where only some are allowed, it has only those."""
    tools: list[Any] = [_without_nulls(tool) for tool in asked.tools or ()]
    choice: Any = asked.tool_choice
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":
        allowed = {tool["name"] for tool in choice["tools"]}
        if unknown := allowed - {tool["name"] for tool in tools}:
            raise InvalidRequest(
                f"tool_choice.tools: '{min(unknown)}' is not one of the tools",
                param="tool_choice.tools",
            )
        tools = [tool for tool in tools if tool["name"] in allowed]
        choice = choice["mode"]
    elif isinstance(choice, dict):
        choice = {"type": "function", "function": {"name": choice["name"]}}
    functions = [
        {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
        for tool in tools
    ]
    return functions or None, choice


def _format(asked: Any) -> Json | None:
    if asked is None:
        return None
    if asked["type"] != "json_schema":
        return {"type": asked["type"]}
    schema = {key: value for key, value in _without_nulls(asked).items() if key != "type"}
    return {"type": "json_schema", "json_schema": schema}


def _without_nulls(fields: Mapping[str, Any]) -> Json:
    return {key: value for key, value in fields.items() if value is not None}


def _repeated(asked: ResponsesBody) -> Json:
    """The fields of a request that a reply repeats, with OpenAI's defaults."""
    text, reasoning = asked.text or {}, asked.reasoning or {}
    tool: Json = {"description": None, "parameters": None, "strict": None}
    return {
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": asked.max_tool_calls,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": asked.prompt_cache_key,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": asked.safety_identifier,
        "service_tier": asked.service_tier,
        "store": False,
        "temperature": asked.temperature,
        "text": {"format": {"type": "text"}, **_without_nulls(text)},
        "tool_choice": asked.tool_choice or "auto",
        "tools": [{**tool, **each} for each in asked.tools or ()],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": asked.top_p,
        "truncation": "disabled",
        "user": asked.user,
    }
