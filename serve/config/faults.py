"""What is wrong with a configuration, in words for the people who write it."""

from collections.abc import Sequence

from pydantic import ValidationError


class ConfigError(ValueError):
    """The configuration can't be used; the message says where and why."""


_KEYS = "must hold keys, indented below it: `key: value`"
_LIST = "must be a list: `[a, b]`, or a line that begins with `- ` for each item"
# In place of Pydantic's messages that speak of Python, by Pydantic's name for the fault.
_REASONS = {
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "dict_type": _KEYS,
    "model_type": _KEYS,
    "model_attributes_type": _KEYS,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "string_type": "must be text; write it in quotes",
    "too_short": "must not be empty",
}


def faults_of(error: ValidationError) -> list[str]:
    """One line for each fault: the path of the key and what is wrong, but not the value, which may
    be a secret in the wrong place."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in fault["loc"])
        reason = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        reason = _REASONS.get(fault["type"], reason)
        # The message of a fault that concerns several keys names them itself.
        lines.append(f"{path}: {reason}" if path else reason)
    return lines


def wrong(what: str, faults: Sequence[str]) -> str:
    """The message for all faults of `what`."""
    return "\n  ".join([f"{what} is wrong:", *faults])
