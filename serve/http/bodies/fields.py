"""From the bytes of a body to checked fields, and what is wrong with them in words."""

from typing import Any, TypeVar

import pydantic_core
from pydantic import BaseModel, ValidationError

from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, RequestTooLarge, UnsupportedParameter
from deployments.json_schema import check_schema, parts
from serve.http.bodies.json_values import holds_more_values

Model = TypeVar("Model", bound=BaseModel)

# Checking a schema takes a second per few thousand properties, and grammars made of it are deep.
_MAX_SCHEMA_CHARACTERS = 2**18
_MAX_SCHEMA_DEPTH, _MAX_SCHEMA_PARTS = 64, 5000
# Explaining an error takes longer the more fields are wrong.
_MAX_FIELDS, _MAX_EXPLAINED = 100, 100
# More than 4,096 messages or queries need. Decoding this many takes tens of milliseconds, during
# which no other thread runs.
_MAX_VALUES = 100_000
# Characters of a caller's own key, or of an error about it, that are quoted.
_QUOTED = 200


def parse_as(model: type[Model], body: bytes) -> Model:
    """Reads a body that is one of our own objects.

    Raises:
        InvalidRequest: with the field at fault in `param`.
    """
    fields = fields_of(body)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise explain(error, fields) from None


def fields_of(body: bytes) -> dict[str, Any]:
    """A body's fields, as they came.

    Raises:
        RequestTooLarge: it has too many values.
        InvalidRequest: it is no JSON object.
    """
    if holds_more_values(body, _MAX_VALUES):
        raise RequestTooLarge(
            f"the body has more than {_MAX_VALUES:,} values, counting each item of an array and "
            "each field of an object"
        )
    try:
        fields = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("the body must be a JSON object")
    if len(fields) > _MAX_FIELDS:
        raise InvalidRequest(f"the body has more than {_MAX_FIELDS} fields")
    return fields


def explain(error: ValidationError, fields: dict[str, Any]) -> InvalidRequest:
    """The caller's error for a body that doesn't fit, with the field at fault in `param`."""
    # A union reports an error for each of its members; the one that got furthest is the one meant.
    faults = error.errors(include_url=False)[:_MAX_EXPLAINED]
    fault = max(faults, key=lambda fault: len(_keys(fault["loc"], fields)))
    missing = [fault["loc"][-1]] if fault["type"] == "missing" else []
    keys = [str(part)[:_QUOTED] for part in [*_keys(fault["loc"], fields), *missing]]
    path = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        return UnsupportedParameter(
            f"'{path}' is not a parameter of this server; leave it out", param=path
        )
    if missing:
        return InvalidRequest(f"'{path}' is missing", param=path)
    path = path or fault.get("ctx", {}).get("param", "")
    reason = fault["msg"][: 2 * _QUOTED]
    return InvalidRequest(f"{path}: {reason}" if path else reason, param=path or None)


def _keys(loc: tuple[str | int, ...], value: Any) -> list[str | int]:
    """Those parts of an error's location that are the caller's keys; the others name our types.

    A type and a key may have the same name, such as the part "text" with its key `text`: the right
    reading is the one that leads to the last part.
    """
    if not loc:
        return []
    part, rest = loc[0], loc[1:]
    without = _keys(rest, value)
    try:
        keys = [part, *_keys(rest, value[part])]
    except (KeyError, IndexError, TypeError):
        return without
    leads = without[-1:] == [loc[-1]] and keys[-1] != loc[-1]
    return without if leads else keys


def check_schemas(request: ChatRequest) -> None:
    """Rejects invalid JSON schemas, before any model sees them."""
    schemas = {
        f"tools.{index}.function.parameters": tool["function"].get("parameters")
        for index, tool in enumerate(request.tools or ())
    }
    if request.response_format and request.response_format["type"] == "json_schema":
        schema = request.response_format["json_schema"].get("schema")
        schemas["response_format.json_schema.schema"] = schema
    size = count = 0
    for path, schema in schemas.items():
        size += len(str(schema))
        if size > _MAX_SCHEMA_CHARACTERS:
            raise InvalidRequest(
                f"the request's schemas have over {_MAX_SCHEMA_CHARACTERS} characters together",
                param=path,
            )
        count += parts(schema, _MAX_SCHEMA_PARTS, _MAX_SCHEMA_DEPTH)
        if count > _MAX_SCHEMA_PARTS:
            raise InvalidRequest(
                f"the request's schemas have over {_MAX_SCHEMA_PARTS} parts, or are over "
                f"{_MAX_SCHEMA_DEPTH} levels deep, with each `$ref` written out",
                param=path,
            )
        if schema is not None:
            check_schema(schema, path, path)
