"""From the bytes of a body to a request and the caller's wishes for its routing."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, UnsupportedParameter
from deployments.json_schema import check_schema

# Checking a schema takes a second for each few thousand properties.
_MAX_SCHEMA_CHARACTERS = 2**18


class RouterOptions(BaseModel):
    """`router`: settings for this request alone."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    strategy: Literal["sequential"] | None = None


class RoutingWishes(BaseModel):
    """What a request says of its routing, beside OpenAI's fields."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    models: Annotated[list[str], Field(min_length=1)] | None = None
    router: RouterOptions = RouterOptions()


@dataclass(frozen=True)
class ParsedRequest:
    """A request as the router takes it."""

    chat: ChatRequest
    wishes: RoutingWishes


def parse(body: bytes) -> ParsedRequest:
    """Reads the body of `POST /v1/chat/completions`.

    Raises:
        InvalidRequest: with the field at fault in `param`.
    """
    try:
        fields = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("the body must be a JSON object")
    # To OpenAI's clients a null is a field left out.
    fields = {key: value for key, value in fields.items() if value is not None}
    wishes = {key: fields.pop(key) for key in ("models", "router") if key in fields}
    try:
        parsed = ParsedRequest(
            ChatRequest.model_validate(fields), RoutingWishes.model_validate(wishes)
        )
    except ValidationError as error:
        raise _explain(error, {**fields, **wishes}) from None
    _check_schemas(parsed.chat)
    return parsed


def _explain(error: ValidationError, fields: dict[str, Any]) -> InvalidRequest:
    # A union complains for each of its members; the one that got furthest is the one meant.
    faults = error.errors(include_url=False)
    fault = max(faults, key=lambda fault: len(_keys(fault["loc"], fields)))
    missing = [fault["loc"][-1]] if fault["type"] == "missing" else []
    path = ".".join(str(part) for part in [*_keys(fault["loc"], fields), *missing])
    if fault["type"] == "extra_forbidden":
        return UnsupportedParameter(
            f"'{path}' is not a parameter of this server; leave it out", param=path
        )
    if missing:
        return InvalidRequest(f"'{path}' is missing", param=path)
    path = path or fault.get("ctx", {}).get("param", "")
    return InvalidRequest(f"{path}: {fault['msg']}" if path else fault["msg"], param=path or None)


def _keys(loc: tuple[str | int, ...], value: Any) -> list[str | int]:
    """The parts of a fault's place that are keys of the caller's; the others name our types."""
    keys = []
    for part in loc:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            continue
        keys.append(part)
    return keys


def _check_schemas(request: ChatRequest) -> None:
    """Refuses a JSON schema that is none, before any model sees it."""
    schemas = {
        f"tools.{index}.function.parameters": tool["function"].get("parameters")
        for index, tool in enumerate(request.tools or ())
    }
    if request.response_format and request.response_format["type"] == "json_schema":
        schema = request.response_format["json_schema"].get("schema")
        schemas["response_format.json_schema.schema"] = schema
    size = 0
    for path, schema in schemas.items():
        size += len(str(schema))
        if size > _MAX_SCHEMA_CHARACTERS:
            raise InvalidRequest(
                f"the request's schemas are over {_MAX_SCHEMA_CHARACTERS} characters", param=path
            )
        if schema is not None:
            check_schema(schema, path, path)
