"""From the bytes of a body to a request."""

import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, UnsupportedParameter
from deployments.extras import ANTHROPIC_PARAMETERS, CACHED_TOOLS, THINKING_BLOCKS
from serve.http.bodies.fields import check_schemas, explain, fields_of
from serve.http.messages.conversation import Thought, conversation_of, is_begun_answer
from serve.http.messages.schemas import MessagesBody, PromptBody, Tool
from serve.request import Request, RouterOptions, RoutingWishes

Body = TypeVar("Body", bound=PromptBody)

# What only Anthropic's own servers do.
_THEIRS: Mapping[str, str] = {
    "container": "this server runs no code",
    "context_management": "this server edits no prompts; remove what is too much from `messages`",
    "mcp_servers": "this server calls no MCP servers; let your client call them",
    "diagnostics": "this server doesn't compare prompts",
    "inference_geo": "choose a model instead",
    "thread": "this server keeps no conversations; send all messages each time",
    "fallbacks": "list the models that may answer in `models`, with `model: 'auto'`",
}
# Budgets of thinking from which the effort is more than low, and more than medium, in tokens.
_MEDIUM, _HIGH = 4096, 16384
# The names of this API for what errors call by those of the contract.
_NAMES = {
    "function.parameters": "input_schema",
    "response_format.json_schema.schema": "output_config.format.schema",
}


def new_id() -> str:
    """A fresh id for a message."""
    return f"msg_{secrets.token_hex(16)}"


def parse(body: bytes) -> Request:
    """Reads the body of `POST /v1/messages`.

    Raises:
        InvalidRequest: with the field at fault in `param`.
    """
    asked = _read(body, MessagesBody)
    given = {
        "stream": bool(asked.stream),
        "max_tokens": asked.max_tokens,
        "stop": asked.stop_sequences,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "user": asked.metadata and asked.metadata.user_id,
        # Anthropic's name for what a request without a tier gets elsewhere.
        "service_tier": "default" if asked.service_tier == "standard_only" else asked.service_tier,
    }
    return _request(asked, given)


def parse_prompt(body: bytes) -> Request:
    """Reads the body of `POST /v1/messages/count_tokens`.

    Raises:
        InvalidRequest: with the field at fault in `param`.
    """
    return _request(_read(body, PromptBody), {})


def _read(body: bytes, model: type[Body]) -> Body:
    fields = {key: value for key, value in fields_of(body).items() if value is not None}
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _theirs(fields) or explain(error, fields) from None


def _theirs(fields: Mapping[str, Any]) -> InvalidRequest | None:
    """The error for what only Anthropic's own servers do, if a body that is not valid asks for
    it."""
    for name, reason in _THEIRS.items():
        if fields.get(name):
            return UnsupportedParameter(f"'{name}' is not supported: {reason}", param=name)
    tools = fields.get("tools")
    for at, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind != "custom":
            return UnsupportedParameter(
                f"'{kind[:200]}' is not supported: only Anthropic's servers and models know this "
                "tool; describe one of your own with `name`, `description` and `input_schema`",
                param=f"tools.{at}.type",
            )
    return None


def _request(asked: PromptBody, given: dict[str, Any]) -> Request:
    messages, thoughts = conversation_of(asked)
    chat: dict[str, Any] = {"model": asked.model, "messages": messages, **given}
    chat |= _tools(asked) | _form(asked)
    chat["reasoning_effort"] = _effort(asked)
    if is_begun_answer(asked):
        chat["continue_final_message"] = True
        messages[-1]["content"] = _joined(messages[-1]["content"])
    chat = {name: value for name, value in chat.items() if value is not None}
    try:
        request = ChatRequest.model_validate(chat)
    except ValidationError as error:
        raise explain(error, chat) from None
    try:
        check_schemas(request)
    except InvalidRequest as error:
        raise InvalidRequest(_named(error.message), param=_named(error.param or "")) from None
    wishes = RoutingWishes(models=asked.models, router=asked.router or RouterOptions())
    return Request(request.with_extra(**_extra(asked, thoughts)), wishes, new_id())


def _tools(asked: PromptBody) -> dict[str, Any]:
    choice = asked.tool_choice
    chosen: Any = None
    match choice and choice.type:
        case "auto" | "none" as same:
            chosen = same
        case "any":
            chosen = "required"
        case "tool":
            chosen = {"type": "function", "function": {"name": getattr(choice, "name", "")}}
    alone = getattr(choice, "disable_parallel_tool_use", None)
    return {
        "tools": [_tool(tool) for tool in asked.tools or ()] or None,
        "tool_choice": chosen,
        "parallel_tool_calls": False if alone else None,
    }


def _tool(tool: Tool) -> dict[str, Any]:
    # Examples have a keyword of their own in JSON Schema.
    examples = {"examples": tool.input_examples} if tool.input_examples else {}
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": {**tool.input_schema, **examples},
        "strict": tool.strict,
    }
    set_ = {name: value for name, value in function.items() if value is not None}
    return {"type": "function", "function": set_}


def _form(asked: PromptBody) -> dict[str, Any]:
    """The JSON schema that the answer is to have; `output_format` is its older name."""
    form = (asked.output_config and asked.output_config.format) or asked.output_format
    if form is None:
        return {}
    schema = {"name": "answer", "schema": form.json_schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _effort_beyond(asked: PromptBody) -> str | None:
    """The effort that is asked for. "high", which Claude Code always sends, is what Anthropic's
    models do without it, so it asks for nothing.

    Source: https://platform.claude.com/docs/en/build-with-claude/effort
    """
    effort = asked.output_config.effort if asked.output_config else None
    return None if effort == "high" else effort


def _effort(asked: PromptBody) -> str | None:
    """The effort as models of all providers know it: what is asked for, or about what the budget
    buys."""
    if effort := _effort_beyond(asked):
        return "xhigh" if effort == "max" else effort
    if asked.thinking and asked.thinking.type == "enabled":
        budget = asked.thinking.budget_tokens
        return "low" if budget < _MEDIUM else "medium" if budget < _HIGH else "high"
    return None


def _extra(asked: PromptBody, thoughts: dict[int, list[Thought]]) -> dict[str, Any]:
    """What Anthropic's models understand beyond the contract."""
    extra: dict[str, Any] = {}
    if thoughts:
        extra[THINKING_BLOCKS] = thoughts
    tools = enumerate(asked.tools or ())
    if cached := {at: tool.cache_control for at, tool in tools if tool.cache_control}:
        extra[CACHED_TOOLS] = cached
    effort = _effort_beyond(asked)
    if asked.thinking or effort:
        extra[ANTHROPIC_PARAMETERS] = {
            "thinking": asked.thinking and asked.thinking.model_dump(exclude_none=True),
            "reasoning_effort": effort,
        }
    return extra


def _joined(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _named(text: str) -> str:
    for ours, theirs in _NAMES.items():
        text = text.replace(ours, theirs)
    return text
