"""Turns JSON that a model wrote into calls of the tools that it was offered."""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployments.answer import ToolCallDelta


@dataclass(frozen=True, slots=True)
class Call:
    """A tool's name and its arguments as JSON."""

    name: str
    arguments: str


def read_calls(value: Any, tools: Mapping[str, Any]) -> list[Call]:
    """The calls that a JSON value consists of; empty if any part of it isn't a call.

    Args:
        value: parsed JSON.
        tools: the functions that may be called, in OpenAI's format, by name.
    """
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    items = value if isinstance(value, list) else [value]
    calls = [call for item in items if (call := _call(item, tools)) is not None]
    return calls if len(calls) == len(items) else []


def _call(item: Any, tools: Mapping[str, Any]) -> Call | None:
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("function"), dict):
        item = item["function"]
    name = item.get("name", item.get("function"))
    if not isinstance(name, str) or name not in tools:
        return None
    arguments = _arguments(item, tools[name])
    return None if arguments is None else Call(name, arguments)


def _arguments(value: dict[str, Any], function: Mapping[str, Any]) -> str | None:
    arguments = value.get("arguments", value.get("parameters"))
    if arguments is None and not (function.get("parameters") or {}).get("required"):
        arguments = {}
    if isinstance(arguments, str):
        try:
            arguments = DECODER.decode(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(arguments, dict):
        return None
    text = json.dumps(arguments, ensure_ascii=False)
    # Half a surrogate pair can be escaped in JSON, but not encoded as UTF-8.
    return json.dumps(arguments) if re.search("[\ud800-\udfff]", text) else text


def delta(index: int, call: Call) -> ToolCallDelta:
    """The call as one whole delta of the answer, with a new id."""
    return ToolCallDelta(index, f"call_{uuid.uuid4().hex}", call.name, call.arguments)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# Strict JSON: Python's own also accepts NaN and Infinity.
DECODER = json.JSONDecoder(parse_constant=_no_constant)
