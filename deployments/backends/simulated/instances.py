"""The simplest JSON that keeps to a schema, for schemas as programs write them."""

import json
from typing import Any

from deployments.backends.simulated.checking import check, within
from deployments.errors import InvalidRequest
from deployments.json_schema import check_schema

# Values in one instance, and characters of all its texts: enough for the schemas of most programs,
# and few enough for Python's stack.
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
        check(value, schema)
    except Exception as error:  # a reference may lead to what is no schema, which fails in any way
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
        self._values, self._characters = _MOST_VALUES, _LONGEST

    def simplest(self, schema: Any) -> Any:
        self._take(values=1)
        if not isinstance(schema, dict):
            return {}
        if "$ref" in schema:
            return self.simplest(self._referred(schema["$ref"]))
        for key in ("const", "default"):
            if key in schema:
                return self._given(schema[key])
        for key in ("anyOf", "oneOf", "allOf"):
            if key in schema:
                return self.simplest(schema[key][0])
        if "enum" in schema:
            return self._given(schema["enum"][0])
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
            return self._text(int(schema.get("minLength", 0)))
        if kind in ("integer", "number"):
            return schema.get("minimum", min(0, schema.get("maximum", 0)))
        return {"boolean": False, "null": None}[kind]

    def _referred(self, reference: str) -> Any:
        """What a reference within the schema means, such as `#/$defs/place`."""
        found = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            found = found[part]
        return found

    def _given(self, value: Any) -> Any:
        """A value that the schema holds."""
        self._take(values=sum(1 for _ in within(value)), characters=len(json.dumps(value)))
        return value

    def _text(self, length: int) -> str:
        self._take(characters=length)
        return "a" * length

    def _take(self, values: int = 0, characters: int = 0) -> None:
        self._values -= values
        self._characters -= characters
        if min(self._values, self._characters) < 0:
            raise ValueError("too large")
