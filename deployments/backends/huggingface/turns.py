"""Turns a request's messages into those of a chat template.

What the request asks for beyond its messages (tools, forced calls, a response format) becomes
instructions in the system message, unless the template has its own place for it.
"""

import json
from typing import Any

from deployments.backends.huggingface.tools import offered_tools
from deployments.contract import ChatRequest
from deployments.errors import UnsupportedParameter
from deployments.messages import Message

# A message as chat templates take it: `role`, `content` (a string) and, for templates with tools,
# `tool_calls` (with arguments as an object) and `tool_call_id`.
Turn = dict[str, Any]


def native_turns(request: ChatRequest) -> list[Turn]:
    """The messages for a template that supports tools and receives them separately."""
    names = _names_of_calls(request.messages)
    turns = [_native_turn(message, names) for message in request.messages]
    return _with_system(turns, [*_choice(request), *_format(request)])


def plain_turns(request: ChatRequest) -> list[Turn]:
    """The messages for a template without tools: tools, calls and results become text.

    A tool's result becomes the user's message, since such a template has no role for it. Adjacent
    messages of one role are joined, since many templates require alternating roles.
    """
    names = _names_of_calls(request.messages)
    turns: list[Turn] = []
    for message in request.messages:
        turn = _plain_turn(message, names)
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1]["content"] += "\n\n" + turn["content"]
        else:
            turns.append(turn)
    return _with_system(turns, [*_tools(request), *_choice(request), *_format(request)])


def without_system(turns: list[Turn]) -> list[Turn]:
    """The same turns for a template without a system role: it moves into the first user message."""
    system = "\n\n".join(turn["content"] for turn in turns if turn["role"] == "system")
    others = [dict(turn) for turn in turns if turn["role"] != "system"]
    if not system:
        return others
    for turn in others:
        if turn["role"] == "user":
            turn["content"] = f"{system}\n\n{turn['content']}"
            return others
    return [{"role": "user", "content": system}, *others]


def _names_of_calls(messages: list[Message]) -> dict[str, str]:
    return {
        call["id"]: call["function"]["name"]
        for message in messages
        if message["role"] == "assistant"
        for call in message.get("tool_calls") or ()
    }


def _native_turn(message: Message, names: dict[str, str]) -> Turn:
    turn: Turn = {"role": _role(message), "content": _text(message)}
    if message["role"] == "tool":
        turn["tool_call_id"] = message["tool_call_id"]
        turn["name"] = names.get(message["tool_call_id"], "")
    if message["role"] == "assistant" and message.get("tool_calls"):
        turn["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": _call(call["function"])}
            for call in message["tool_calls"] or ()
        ]
    return turn


def _plain_turn(message: Message, names: dict[str, str]) -> Turn:
    text = _text(message)
    if message["role"] == "tool":
        name = names.get(message["tool_call_id"], message["tool_call_id"])
        return {"role": "user", "content": f"Result of {name}: {text}"}
    if message["role"] == "assistant" and message.get("tool_calls"):
        calls = json.dumps(
            [_call(call["function"]) for call in message["tool_calls"] or ()], ensure_ascii=False
        )
        text = f"{text}\n{calls}" if text else calls
    return {"role": _role(message), "content": text}


def _role(message: Message) -> str:
    # Only OpenAI's models have a developer role.
    return "system" if message["role"] == "developer" else message["role"]


def _text(message: Message) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    if any(part["type"] != "text" for part in content):
        raise UnsupportedParameter(
            "this model reads text only: remove the images or ask another model",
            param="messages",
        )
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _call(function: Any) -> dict[str, Any]:
    try:
        arguments = json.loads(function["arguments"] or "{}")
        json.dumps(arguments, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        # Clients may send back invalid JSON that a model wrote, or JSON that can't be encoded, such
        # as half a surrogate pair: show it verbatim.
        arguments = function["arguments"]
    return {"name": function["name"], "arguments": arguments}


def _with_system(turns: list[Turn], instructions: list[str]) -> list[Turn]:
    if not instructions:
        return turns
    text = "\n\n".join(instructions)
    if turns[0]["role"] == "system":
        content = f"{turns[0]['content']}\n\n{text}" if turns[0]["content"] else text
        return [{**turns[0], "content": content}, *turns[1:]]
    return [{"role": "system", "content": text}, *turns]


def _tools(request: ChatRequest) -> list[str]:
    tools = offered_tools(request)
    if not tools:
        return []
    described = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    most = " Call one function at most." if request.parallel_tool_calls is False else ""
    return [
        f"You can call these functions:\n{described}\n"
        "To call functions, answer with a JSON list and nothing else: "
        f'[{{"name": "the function", "arguments": {{"its parameter": "value"}}}}]{most}'
    ]


def _choice(request: ChatRequest) -> list[str]:
    lines = []
    if request.named_tool is not None:
        lines.append(f"Answer with the arguments of {request.named_tool} only, as a JSON object.")
    elif request.tool_choice == "required":
        lines.append('Call functions: [{"name": "the function", "arguments": {}}]')
    return lines


def _format(request: ChatRequest) -> list[str]:
    wanted = request.response_format
    if wanted is None or wanted["type"] == "text":
        return []
    if wanted["type"] == "json_object":
        return ["Answer with a JSON object and nothing else."]
    described = wanted["json_schema"]
    schema = json.dumps(described.get("schema", {}), ensure_ascii=False)
    purpose = f" ({described['description']})" if described.get("description") else ""
    return [f"Answer with JSON that follows this schema{purpose} and nothing else: {schema}"]
