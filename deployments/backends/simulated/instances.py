"""The simplest JSON that keeps to a schema, for schemas as programs write them."""

import json
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from deployments.errors import InvalidRequest
from deployments.json_schema import check_schema

# Values in one instance, and characters of a text: enough for the schemas of most programs, and few
# enough for Python's stack.
_MOST_VALUES, _LONGEST = 200, 100_000


def instance_of(schema: Any, where: str, param: str = "response_format") -> str:
    """JSON that keeps to a schema: what is required, as short and as small as it may be.

    Args:
        schema: the request's schema.
        where: what the message calls it.
        param: the request's field that holds it.

    Raises:
        InvalidRequest: it is no schema, nothing keeps to it, or only what is not that simple, such
            as text that matches a `pattern`.
    """
    check_schema(schema, where, param)
    try:
        value = _Writer(schema).simplest(schema)
        Draft202012Validator(schema).validate(value)
    except (ValidationError, LookupError, TypeError, ValueError) as error:
        raise InvalidRequest(
            f"{where}: a simulated model finds no value for this schema; simplify it or ask "
            "another model",
            param=param,
        ) from error
    return json.dumps(value)


class _Writer:
    """Writes the likeliest value of a schema. Whether that keeps to it is checked afterwards."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = _MOST_VALUES

    def simplest(self, schema: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("too many values")
        if not isinstance(schema, dict):
            return {}
        if "$ref" in schema:
            return self.simplest(self._referred(schema["$ref"]))
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                return self.simplest(schema[key][0])
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type", "object")
        return self._of_type(kind[0] if isinstance(kind, list) else kind, schema)

    def _of_type(self, kind: str, schema: dict[str, Any]) -> Any:
        if kind == "object":
            known = schema.get("properties", {})
            return {name: self.simplest(known.get(name)) for name in schema.get("required", ())}
        if kind == "array":
            number = min(int(schema.get("minItems", 0)), _MOST_VALUES)
            return [self.simplest(schema.get("items")) for _ in range(number)]
        if kind == "string":
            return _text(schema)
        if kind in ("integer", "number"):
            return schema.get("minimum", min(0, schema.get("maximum", 0)))
        return {"boolean": False, "null": None}[kind]

    def _referred(self, reference: str) -> Any:
        """What a reference within the schema means, such as `#/$defs/place`."""
        found = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            found = found[part]
        return found


def _text(schema: dict[str, Any]) -> str:
    # A caller's pattern may take for ever to match.
    if "pattern" in schema or schema.get("minLength", 0) > _LONGEST:
        raise ValueError("no simple text")
    return "a" * int(schema.get("minLength", 0))
