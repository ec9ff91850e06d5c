"""Whether what a request calls a JSON schema is one."""

import json
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from deployments.errors import InvalidRequest

_QUOTED = 200  # characters


def check_schema(schema: Any, where: str, param: str) -> None:
    """Raises InvalidRequest unless `schema` is a JSON Schema (2020-12) that JSON can hold.

    Args:
        schema: what the request gives.
        where: how the message names it.
        param: the request's field that holds it.
    """
    try:
        json.dumps(schema, allow_nan=False)
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        # It quotes the schema, which may be long.
        reason = error.message[:_QUOTED]
        raise InvalidRequest(f"{where}: no JSON schema: {reason}", param=param) from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where}: no JSON schema: {error}", param=param) from error
