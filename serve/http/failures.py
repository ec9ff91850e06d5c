"""From our errors to responses, in the form that the clients of each API read."""

from collections.abc import Callable, Mapping, MutableMapping
from http import HTTPStatus
from math import ceil
from types import MappingProxyType
from typing import Any

from fastapi import Response
from starlette.types import Scope

from deployments.errors import LLMError, Unauthenticated
from serve.http.aios import errors as aios
from serve.http.json_response import json_response
from serve.http.messages import errors as messages
from serve.http.scopes import path_of

Form = Callable[[LLMError, Scope], tuple[int, dict[str, Any], dict[str, str]]]
"""From a request's error to an API's HTTP status, body and headers."""


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


# Paths whose clients read another form than OpenAI's.
_FORMS: Mapping[str, Form] = MappingProxyType(
    {
        **dict.fromkeys(messages.PATHS, messages.error_form),
        **dict.fromkeys(aios.PATHS, aios.detail),
    }
)


def from_status(status: int, detail: str) -> LLMError:
    """The error for an HTTP status that Starlette has raised, such as an unknown path's."""
    error = LLMError(detail or HTTPStatus(status).phrase)
    error.status = status
    error.type = "invalid_request_error" if status < 500 else "server_error"
    error.code = HTTPStatus(status).name.lower()
    return error


def error_response(
    error: LLMError, scope: Scope, headers: Mapping[str, str] | None = None
) -> Response:
    """The HTTP response for an error; the access log will have the error, too.

    Args:
        error: the error.
        scope: the request's, whose path says which form its client reads.
        headers: more headers.
    """
    state: MutableMapping[str, Any] = scope.get("state", {})
    if (access := state.get("access")) is not None:
        access.note(error)
    form = _FORMS.get(path_of(scope), _openai_form)
    status, body, more = form(error, scope)
    return json_response(
        body, status=status, headers={**_headers(error), **more, **(headers or {})}
    )


def _openai_form(error: LLMError, scope: Scope) -> tuple[int, dict[str, Any], dict[str, str]]:
    return error.status, error_json(error), {}


def _headers(error: LLMError) -> dict[str, str]:
    """`Retry-After` in whole seconds, if the error has one, and what 401 asks for."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, ceil(error.retry_after)))
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = "Bearer"
    return headers
