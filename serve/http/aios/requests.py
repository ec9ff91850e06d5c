"""From the bytes of a body to a query: which action, which models, and what to ask them."""

import json
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, RequestTooLarge, UnsupportedParameter
from deployments.free_form import FreeForm
from deployments.messages import MOST_MESSAGES, MOST_TOOLS
from serve.dispatch.candidates import AUTO
from serve.http.aios.storage import OPERATIONS
from serve.http.bodies.fields import check_schemas, explain, fields_of
from serve.http.bodies.json_values import holds_more_values
from serve.request import ModelName, Request, RoutingWishes

# The SDK's older form has `tool_use` for what is `call_tool` in the newer one.
Action = Literal[
    "chat",
    "chat_with_json_output",
    "chat_with_tool_call_output",
    "call_tool",
    "operate_file",
    "tool_use",
]
_STRICT = ConfigDict(strict=True, frozen=True, extra="forbid")
# What a reply of this format can't hold, or what its own fields say.
_NOT_HERE = frozenset({"model", "models", "stream", "stream_options"})
_MOST_MODELS = 1000
# Explaining what is wrong takes longer the more fields are.
_MOST_MORE_FIELDS = 100


class LLM(BaseModel):
    """A model, by its name. What else it has (`backend`, `provider`) is configured here."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    name: Annotated[ModelName, Field(min_length=1)]


LLMs = Annotated[list[LLM], Field(max_length=_MOST_MODELS)]


class LLMQuery(BaseModel):
    """The SDK's `LLMQuery`, of both its forms. Other fields are those of a chat completion, or
    `router`."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    query_class: Literal["llm"] = "llm"
    llms: LLMs | None = None
    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_MESSAGES)]
    tools: Annotated[list[dict[str, Any]], Field(max_length=MOST_TOOLS)] | None = None
    action_type: Action = "chat"
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    max_new_tokens: Annotated[int, Field(ge=1)] | None = None
    message_return_type: Literal["text", "json"] = "text"
    response_format: dict[str, Any] | None = None


class LLMSyscall(BaseModel):
    """A query for the LLMs."""

    model_config = _STRICT

    query_type: Literal["llm"]
    agent_name: Annotated[str, Field(max_length=512)]
    query_data: LLMQuery


class OtherSyscall(BaseModel):
    """A query for one of the kernel's managers that this server doesn't have."""

    model_config = _STRICT

    query_type: Literal["memory", "storage", "tool"]
    agent_name: Annotated[str, Field(max_length=512)]
    query_data: FreeForm


class QueryBody(RootModel[LLMSyscall | OtherSyscall]):
    """What an agent asks of the kernel."""

    root: Annotated[LLMSyscall | OtherSyscall, Field(discriminator="query_type")]


class SelectionBody(RootModel[LLMs | None]):
    """The models that are to answer where a query names none; an empty list stands for all."""


class SetupBody(BaseModel):
    """The SDK's `LLMLayer`. All but the name is configured here."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    llm_name: Annotated[ModelName, Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Query:
    """A query that fits the format.

    Attributes:
        type: "llm", or the manager that it is for.
        action: what is wanted of the LLMs.
        names: of the models that may answer; if empty, those that the caller has selected.
        request: what to ask them, or why none can answer it; None for a manager.
    """

    type: str
    action: Action = "chat"
    names: tuple[str, ...] = ()
    request: Request | InvalidRequest | None = None


def parse(body: bytes) -> Query:
    """Reads the body of `POST /query`.

    Raises:
        InvalidRequest: it doesn't fit the format; the field at fault is in `param`.
    """
    fields = fields_of(body)
    try:
        syscall = QueryBody.model_validate(fields).root
    except ValidationError as error:
        raise explain(error, fields) from None
    if isinstance(syscall, OtherSyscall):
        return Query(syscall.query_type)
    asked = syscall.query_data
    names = tuple(dict.fromkeys(llm.name for llm in asked.llms or ()))
    try:
        return Query("llm", asked.action_type, names, _request(asked))
    except InvalidRequest as error:
        return Query("llm", asked.action_type, names, error)


def parse_selection(body: bytes) -> tuple[str, ...]:
    """Reads the body of `POST /user/select/llms`: the models' names.

    Raises:
        InvalidRequest: it doesn't fit the format.
    """
    if holds_more_values(body, 10 * _MOST_MODELS):
        raise RequestTooLarge("the body has too many values")
    try:
        selection = SelectionBody.model_validate(pydantic_core.from_json(body))
    except ValueError:  # also Pydantic's own
        raise InvalidRequest(
            f'the body must be a JSON array of at most {_MOST_MODELS} models: [{{"name": "…"}}]'
        ) from None
    return tuple(dict.fromkeys(llm.name for llm in selection.root or ()))


def among(request: Request, names: tuple[str, ...]) -> Request:
    """The request, to be answered by one of these models; if there are none, by any."""
    if len(names) == 1:
        return replace(request, chat=request.chat.model_copy(update={"model": names[0]}))
    wishes = request.wishes.model_copy(update={"models": list(names) or None})
    return replace(request, wishes=wishes)


def _request(asked: LLMQuery) -> Request:
    more = dict(asked.model_extra or {})
    if len(more) > _MOST_MORE_FIELDS:
        raise InvalidRequest(f"'query_data' has more than {_MOST_MORE_FIELDS} unknown fields")
    for name in sorted(_NOT_HERE & more.keys()):
        raise UnsupportedParameter(
            f"'query_data.{name}' is not a parameter of this format; leave it out (`llms` says "
            "which models may answer)",
            param=name,
        )
    router = more.pop("router", None)
    wishes: dict[str, Any] = {} if router is None else {"router": router}
    wants = {
        "model": AUTO,
        "messages": [_message(message) for message in asked.messages],
        "tools": _tools(asked),
        "temperature": asked.temperature,
        "max_tokens": asked.max_new_tokens,
        "response_format": _response_format(asked),
    }
    fields = {**more, **{name: value for name, value in wants.items() if value is not None}}
    try:
        chat = ChatRequest.model_validate(fields)
        request = Request(chat, RoutingWishes.model_validate(wishes))
    except ValidationError as error:
        raise explain(error, {**fields, **wishes}) from None
    check_schemas(chat)
    return request


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's message. Agents send tool calls back as they got them, in this format's form."""
    calls = message.get("tool_calls")
    if message.get("role") != "assistant" or not isinstance(calls, list):
        return message
    return {**message, "tool_calls": [_tool_call(call) for call in calls]}


def _tool_call(call: Any) -> Any:
    if not isinstance(call, dict) or "function" in call or "name" not in call:
        return call
    parameters = call.get("parameters")
    written = parameters if isinstance(parameters, str) else json.dumps(parameters or {})
    function = {"name": call["name"], "arguments": written}
    return {"id": call.get("id"), "type": "function", "function": function}


def _tools(asked: LLMQuery) -> list[dict[str, Any]] | None:
    """OpenAI's tools; the SDK's own examples leave the outer object out."""
    if asked.action_type == "operate_file" and not asked.tools:
        return OPERATIONS
    tools = asked.tools or []
    return [
        {"type": "function", "function": tool}
        if "name" in tool and "function" not in tool
        else tool
        for tool in tools
    ] or None


def _response_format(asked: LLMQuery) -> dict[str, Any] | None:
    """OpenAI's `response_format`; some agents send a JSON schema itself."""
    given = asked.response_format
    if given:
        if given.get("type") in ("text", "json_object", "json_schema"):
            return given
        return {"type": "json_schema", "json_schema": {"name": "response", "schema": given}}
    wants_json = asked.message_return_type == "json"
    if wants_json or asked.action_type == "chat_with_json_output":
        return {"type": "json_object"}
    return None
