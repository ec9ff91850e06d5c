"""Whether an answer that is meant for programs can be read by one: JSON, and calls of tools.

Schemas are callers', and a few short ones take for ever to check. So only so many steps are taken,
and keywords whose cost can't be counted in steps make the result unknown. Nothing is fetched.
"""

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from jsonschema import Draft202012Validator, validators
from referencing import Registry

from deployments.contract import ChatRequest, Chunk, ToolCallDelta

_MOST_CHARACTERS = 20_000
_MOST_STEPS = 5_000
_UNCOUNTED = {
    *("pattern", "patternProperties"),  # regular expressions
    *("uniqueItems", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef"),
    "$schema",  # within a schema: another validator would take over
}
_steps: ContextVar[Iterator[int]] = ContextVar("_steps")

Keyword = Callable[..., Any]


class _TooLong(Exception):
    """The check has taken too many steps."""


def is_checkable(request: ChatRequest) -> bool:
    """Whether answers to a request may be of a form that can be checked."""
    return request.shape != "text"


def passes(request: ChatRequest, answer: Chunk) -> bool | None:
    """Whether a whole answer has the form that was asked for; None if that isn't known, or nothing
    was asked for."""
    size = len(answer.text) + sum(len(call.arguments) for call in answer.tool_calls)
    if size > _MOST_CHARACTERS:
        return None
    if answer.tool_calls:
        names = {tool["function"]["name"] for tool in request.tools or ()}
        return all(_can_be_made(call, names) for call in answer.tool_calls)
    if request.wants_json:
        return _is_as_asked(answer.text, request)
    return None


def _can_be_made(call: ToolCallDelta, names: set[str]) -> bool:
    """Whether a tool of these names is called, with arguments that can be read."""
    try:
        arguments = json.loads(call.arguments or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return call.name in names and isinstance(arguments, dict)


def _is_as_asked(text: str, request: ChatRequest) -> bool | None:
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    asked = request.response_format
    assert asked is not None
    if asked["type"] != "json_schema":
        return isinstance(value, dict)
    schema = asked["json_schema"].get("schema")
    return True if schema is None else _satisfies(value, schema)


def _satisfies(value: Any, schema: dict[str, Any]) -> bool | None:
    schema = {name: part for name, part in schema.items() if name != "$schema"}
    if _has_uncounted(schema):
        return None
    _steps.set(iter(range(_MOST_STEPS)))
    try:
        return bool(_Counting(schema, registry=Registry()).is_valid(value))
    except Exception:  # noqa: BLE001 - whatever is wrong with the schema isn't the answer's fault
        return None


def _has_uncounted(schema: Any) -> bool:
    left = [schema]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if _UNCOUNTED & part.keys():
                return True
            left += part.values()
        elif isinstance(part, list):
            left += part
    return False


def _counted(keyword: Keyword) -> Keyword:
    def check(*arguments: Any) -> Any:
        if next(_steps.get(), None) is None:
            raise _TooLong
        return keyword(*arguments)

    return check


_KEYWORDS = {name: _counted(each) for name, each in Draft202012Validator.VALIDATORS.items()}
_Counting = validators.extend(Draft202012Validator, _KEYWORDS)  # type: ignore[no-untyped-call]


def _refuse(constant: str) -> None:
    """`NaN` and `Infinity`, which Python reads, are not JSON."""
    raise ValueError(constant)
