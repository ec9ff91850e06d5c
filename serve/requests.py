"""From the bytes of a body to a request and the caller's wishes for its routing."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jsonschema
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.contract import ChatRequest
from deployments.errors import InvalidRequest, UnsupportedParameter


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
        fields = pydantic_core.from_json(body)
    except ValueError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("the body must be a JSON object")
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
    faults = error.errors(include_url=False, include_context=False)
    fault = max(faults, key=lambda fault: len(_keys(fault["loc"], fields)))
    missing = [fault["loc"][-1]] if fault["type"] == "missing" else []
    path = ".".join(str(part) for part in [*_keys(fault["loc"], fields), *missing])
    if fault["type"] == "extra_forbidden":
        return UnsupportedParameter(
            f"'{path}' is not a parameter of this server; leave it out", param=path
        )
    if missing:
        return InvalidRequest(f"'{path}' is missing", param=path)
    message = fault["msg"].removeprefix("Value error, ")
    return InvalidRequest(f"{path}: {message}" if path else message, param=path or None)


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
    for index, tool in enumerate(request.tools or ()):
        _check_schema(tool["function"].get("parameters"), f"tools.{index}.function.parameters")
    if request.response_format and request.response_format["type"] == "json_schema":
        schema = request.response_format["json_schema"].get("schema")
        _check_schema(schema, "response_format.json_schema.schema")


def _check_schema(schema: dict[str, Any] | None, path: str) -> None:
    if schema is None:
        return
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        raise InvalidRequest(
            f"{path} is no valid JSON schema: {error.message}", param=path
        ) from None
