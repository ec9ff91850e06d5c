"""From our errors to OpenAI's error JSON."""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

from fastapi import Response

from deployments.errors import LLMError
from serve.http.json_response import json_response


def error_json(error: LLMError) -> dict[str, Any]:
    """OpenAI's error object.

    Source: https://platform.openai.com/docs/guides/error-codes
    """
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


def error_headers(error: LLMError) -> dict[str, str]:
    """`Retry-After` in whole seconds, if the error has one."""
    if error.retry_after is None:
        return {}
    return {"retry-after": str(max(1, ceil(error.retry_after)))}


def from_status(status: int, detail: str) -> LLMError:
    """The error for an HTTP status that Starlette has raised, such as an unknown path's."""
    error = LLMError(detail or HTTPStatus(status).phrase)
    error.status = status
    error.type = "invalid_request_error" if status < 500 else "server_error"
    error.code = HTTPStatus(status).name.lower()
    return error


def error_response(error: LLMError, headers: Mapping[str, str] | None = None) -> Response:
    """The HTTP response for an error."""
    headers = {**error_headers(error), **(headers or {})}
    return json_response(error_json(error), status=error.status, headers=headers)
