"""JSON of any shape from a caller, such as a schema: bounded before anything reads it."""

from math import isfinite
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

_MOST_VALUES, _MOST_LEVELS = 20_000, 64


def at_most(values: int, *, finite: bool = False) -> BeforeValidator:
    """A validator for a field that holds at most `values` values, nested ones included.

    Pydantic's `max_length` reports every wrong item of a dictionary before it counts them.

    Args:
        values: how many.
        finite: whether to refuse numbers that can't be sent on: 1e400 is valid JSON, but is read as
            infinity, which is not.
    """

    def check(value: Any) -> Any:
        count, left = 0, [(value, 0)]
        while left:
            each, level = left.pop()
            if finite and isinstance(each, float) and not isfinite(each):
                raise PydanticCustomError(
                    "not_finite", "holds a number that is too large, so not JSON compliant"
                )
            if not isinstance(each, dict | list):
                continue
            count += len(each)
            if count > values:
                raise PydanticCustomError(
                    "too_many_values", "holds more than {most} values", {"most": values}
                )
            if level >= _MOST_LEVELS:
                raise PydanticCustomError(
                    "too_deep", "is more than {most} levels deep", {"most": _MOST_LEVELS}
                )
            left += [
                (inner, level + 1) for inner in (each.values() if isinstance(each, dict) else each)
            ]
        return value

    return BeforeValidator(check)


FreeForm = Annotated[dict[str, Any], at_most(_MOST_VALUES, finite=True)]
