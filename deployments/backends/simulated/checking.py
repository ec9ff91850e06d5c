"""Checks a value against a caller's schema: nothing is fetched, and the work is bounded."""

from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from referencing import Registry

# What one check may take: a keyword takes 1, and 1 for each part of its value. That is about 0.2 s.
_MOST_STEPS = 50_000
_left: ContextVar[int] = ContextVar("left")

# The library evaluates these by searches of its own, which no count of keywords bounds.
_UNBOUNDED = {"patternProperties", "unevaluatedProperties", "unevaluatedItems"}
# A pattern may take for ever to match, and another dialect has keywords that aren't counted.
_UNBOUNDED_TEXTS = ("pattern", "$schema")


def check(value: Any, schema: Any) -> None:
    """Raises an exception, of any kind, unless the value keeps to the schema.

    Args:
        value: plain JSON values.
        schema: checked to be one; references may still lead to what is no schema.
    """
    if isinstance(schema, dict):
        schema = {key: of for key, of in schema.items() if key != "$schema"}
    if any(map(_is_unbounded, within(schema))):
        raise ValueError("the schema may take too long to check")
    _left.set(_MOST_STEPS)
    _Validator(schema, registry=Registry()).validate(value)


def within(value: Any) -> Iterator[Any]:
    """A JSON value, and all values in it."""
    left = [value]
    while left:
        yield (each := left.pop())
        if isinstance(each, dict | list):
            left += each.values() if isinstance(each, dict) else each


def _is_unbounded(part: Any) -> bool:
    return isinstance(part, dict) and (
        not _UNBOUNDED.isdisjoint(part)
        or any(isinstance(part.get(key), str) for key in _UNBOUNDED_TEXTS)
    )


def _counted(keyword: Callable[..., Any]) -> Callable[..., Any]:
    def counted(validator: Any, of: Any, value: Any, schema: Any) -> Any:
        left = _left.get() - 1 - (len(of) if isinstance(of, dict | list) else 0)
        if left < 0:
            raise ValueError("the schema takes too long to check")
        _left.set(left)
        return keyword(validator, of, value, schema)

    return counted


_Validator = extend(  # type: ignore[no-untyped-call]  # its stubs have no types for it
    Draft202012Validator,
    {name: _counted(keyword) for name, keyword in Draft202012Validator.VALIDATORS.items()},
)
