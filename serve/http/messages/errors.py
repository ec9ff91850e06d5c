"""Our errors in the form that Anthropic's clients read.

Source: https://docs.anthropic.com/en/api/errors
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from starlette.types import Scope

from deployments.errors import (
    DeadlineExceeded,
    ForbiddenOrigin,
    InvalidRequest,
    LLMError,
    ModelNotFound,
    NotPermitted,
    Overloaded,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    Unauthenticated,
    UnknownAnswer,
)
from serve.http.scopes import request_id_of

PATHS = ("/v1/messages", "/v1/messages/count_tokens")
"""Paths whose clients read this form."""

_TYPES: Mapping[type[LLMError], str] = MappingProxyType(
    {
        RequestTooLarge: "request_too_large",
        RequestTimeout: "timeout_error",
        InvalidRequest: "invalid_request_error",
        Unauthenticated: "authentication_error",
        ForbiddenOrigin: "permission_error",
        NotPermitted: "permission_error",
        ModelNotFound: "not_found_error",
        UnknownAnswer: "not_found_error",
        Overloaded: "overloaded_error",
        RateLimited: "rate_limit_error",
        QuotaExceeded: "rate_limit_error",
        DeadlineExceeded: "timeout_error",
        LLMError: "api_error",
    }
)
# Those of unknown paths and methods, which Starlette raises.
_TYPES_BY_STATUS = {404: "not_found_error", 405: "invalid_request_error"}
_OVERLOADED = 529
# What this API calls parameters that errors name as the contract does.
_NAMES = {
    "reasoning_effort": "`thinking` or `output_config.effort`",
    "response_format": "`output_config.format`",
    "continue_final_message": "a last message of the assistant",
    "parallel_tool_calls": "`tool_choice.disable_parallel_tool_use`",
    "stop": "`stop_sequences`",
}
# What its clients' tool runners look for, to go on without a thread
# (`anthropic.lib.threads._thread_state` of Anthropic's SDK for Python 2.14).
_NO_THREADS = {"error_code": "thread_unsupported_request", "unsupported": ["thread"]}


def status_of(error: LLMError | type[LLMError]) -> int:
    """The HTTP status of an error: Anthropic has one of its own for a server that is overloaded."""
    kind = error if isinstance(error, type) else type(error)
    return _OVERLOADED if issubclass(kind, Overloaded) else error.status


def type_of(error: LLMError | type[LLMError]) -> str:
    """Anthropic's `error.type`."""
    kind = error if isinstance(error, type) else type(error)
    if kind is LLMError and error.status in _TYPES_BY_STATUS:
        return _TYPES_BY_STATUS[error.status]
    return next(_TYPES[known] for known in kind.__mro__ if known in _TYPES)


def error_json(error: LLMError, request_id: str | None) -> dict[str, Any]:
    """Anthropic's error object. Its clients show the message alone, so that names the field."""
    message = error.message
    if name := _NAMES.get(error.param or ""):
        message = f"{message} (here, '{error.param}' is {name})"
    details = {"details": _NO_THREADS} if error.param == "thread" else {}
    return {
        "type": "error",
        "error": {"type": type_of(error), "message": message, **details},
        "request_id": request_id,
    }


def error_form(error: LLMError, scope: Scope) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The HTTP status, the body and the headers of an error."""
    return status_of(error), error_json(error, request_id_of(scope)), id_header(scope)


def id_header(scope: Scope) -> dict[str, str]:
    """The request's id under the name by which Anthropic's clients look for it in any response."""
    id = request_id_of(scope)
    return {} if id is None else {"request-id": id}
