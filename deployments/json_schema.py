"""Checks that what a request calls a JSON schema is one, and how large it is."""

import json
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from deployments.errors import InvalidRequest

_QUOTED = 200  # characters


def parts(schema: Any, most: int, deepest: int) -> int:
    """The number of objects and arrays in a schema once each `$ref` is replaced by its definition,
    as providers' libraries do; `most` + 1 if there are more, or if any lies deeper than `deepest`.

    A reference is resolved by its last part, as by LiteLLM's `unpack_defs`. A recursive one is not
    replaced again.
    """
    named = _definitions(schema)
    count, left = 0, [(schema, 0, frozenset[str]())]
    while left:
        value, depth, within = left.pop()
        if not isinstance(value, dict | list):
            continue
        count += 1
        if count > most or depth >= deepest:
            return most + 1
        inner = list(value.values() if isinstance(value, dict) else value)
        left += [(each, depth + 1, within) for each in inner]
        name = _name(value)
        if name not in within:
            left += [(each, depth + 1, within | {name}) for each in named.get(name, [])]
    return count


def _definitions(schema: Any) -> dict[str, list[Any]]:
    named: dict[str, list[Any]] = {}
    left = [schema]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            for key in ("$defs", "definitions"):
                if isinstance(definitions := value.get(key), dict):
                    for name, each in definitions.items():
                        named.setdefault(name, []).append(each)
            left += value.values()
        elif isinstance(value, list):
            left += value
    return named


def _name(value: Any) -> str:
    """The definition that a reference names; "" for anything else."""
    ref = value.get("$ref") if isinstance(value, dict) else None
    return ref.split("/")[-1] if isinstance(ref, str) else ""


def check_schema(schema: Any, where: str, param: str) -> None:
    """Raises InvalidRequest unless `schema` is a JSON Schema (2020-12) that JSON can hold.

    Args:
        schema: the request's schema.
        where: what the message calls it.
        param: the request's field that holds it.
    """
    try:
        json.dumps(schema, allow_nan=False)
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        # It quotes the schema, which may be long.
        reason = error.message[:_QUOTED]
        raise InvalidRequest(f"{where}: not a valid JSON schema: {reason}", param=param) from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"{where}: not a valid JSON schema: {error}", param=param) from error
