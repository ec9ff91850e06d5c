"""What /docs and /openapi.json say about each endpoint.

The endpoints read a request's bytes themselves, so that FastAPI can't derive it from their types.
"""

from itertools import groupby
from typing import Any

from fastapi import Security
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from deployments.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    ForbiddenOrigin,
    HeadersTooLarge,
    InvalidRequest,
    LLMError,
    ModelNotFound,
    ModelUnavailable,
    NotPermitted,
    Overloaded,
    ProviderError,
    ProviderRejected,
    QuotaExceeded,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    Unauthenticated,
    UnknownAnswer,
    Unreachable,
    UnsupportedParameter,
)
from serve.http.batches import Batch
from serve.http.schemas import (
    ChatBody,
    ChatCompletion,
    ErrorReply,
    Feedback,
    FeedbackReply,
    HealthReply,
    LiveReply,
    Model,
    ModelList,
    RankReply,
    ReadyReply,
    RouteReply,
)

_JSON = "application/json"
# Errors before an endpoint is reached, of the headers and of the caller; then those of a body.
HEADERS = (InvalidRequest, HeadersTooLarge)
CALLER = (*HEADERS, Unauthenticated, ForbiddenOrigin, Overloaded, QuotaExceeded)
BODY = (*CALLER, RequestTimeout, RequestTooLarge, UnsupportedParameter)
# Those of a request that a model is to answer.
ANSWER = (
    *BODY,
    ContextLengthExceeded,
    ContentFiltered,
    ModelNotFound,
    RateLimited,
    ProviderRejected,
    ProviderError,
    Unreachable,
    ModelUnavailable,
    DeadlineExceeded,
)


def header(description: str, type: str, *, always: bool = False) -> dict[str, Any]:
    """The description of a response's header."""
    return {"description": description, "schema": {"type": type}, "required": always}


_RETRY_AFTER = header("Seconds after which to retry, where known", "integer")


def errors(*kinds: type[LLMError]) -> dict[int | str, dict[str, Any]]:
    """The responses for errors, by status: each error's code and what it means."""
    ordered = sorted(kinds, key=lambda kind: (kind.status, kind.code))
    return {
        status: {
            "model": ErrorReply,
            "description": "\n".join(
                f"- `{kind.code}`: {(kind.__doc__ or '').splitlines()[0]}" for kind in of_status
            ),
            **({"headers": {"retry-after": _RETRY_AFTER}} if status in (429, 503) else {}),
        }
        for status, of_status in groupby(ordered, key=lambda kind: kind.status)
    }


def takes(model: type[BaseModel], **examples: Any) -> dict[str, Any]:
    """The description of a request's body."""
    content = {
        "schema": _without_definitions(model.model_json_schema()),
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {_JSON: content}}}


def _without_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its definitions written out, since it is only a part of the document."""
    definitions = schema.pop("$defs", {})

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return whole(definitions[part["$ref"].removeprefix("#/$defs/")])
        # A discriminator refers to definitions; `oneOf` works without it.
        return {key: whole(inner) for key, inner in part.items() if key != "discriminator"}

    pieces: dict[str, Any] = whole(schema)
    return pieces


_QUESTION = [{"role": "user", "content": "What is 7 plus 5?"}]
_SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
TIMEOUT = {
    "name": "x-request-timeout-seconds",
    "in": "header",
    "description": "Seconds that the request may take, retries included, within the server's limit",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
# OpenAPI 3.1 has no schema for events (3.2 has `itemSchema`); a schema of the text says nothing.
_EVENTS = {"example": 'data: {"object": "chat.completion.chunk", …}\n\ndata: [DONE]\n\n'}

# This only describes it: serve/http/middleware/gate.py checks the key.
KEY = [
    Security(
        HTTPBearer(
            scheme_name="bearer",
            description="An API key, where the server requires one",
            auto_error=False,
        )
    )
]

ANSWER_HEADERS: dict[str, Any] = {
    "x-router-model": header("The model that answered", "string", always=True),
    "x-router-strategy": header("The strategy that chose it", "string", always=True),
    "x-router-attempts": header("How many times a model was called", "integer", always=True),
    "x-router-reason": header("Why it was chosen, with smart routing", "string"),
    "x-router-cost": header(
        "USD, where the answer is not streamed and the price is known", "number"
    ),
}

CHAT: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {
            "model": ChatCompletion,
            "description": (
                "The answer. With `stream: true`, events that each hold a `chat.completion.chunk`, "
                "then `[DONE]`. The chunk with the `finish_reason` has a field `router`: "
                "the model, the attempts, the cost, and, if several models wrote the answer, what "
                "was `rescued` and each model's `usage`. If the answer breaks off, the last event "
                "holds an `error`."
            ),
            "content": {"text/event-stream": _EVENTS},
            "headers": ANSWER_HEADERS,
        },
        **errors(*ANSWER),
    },
    "openapi_extra": {
        "parameters": [TIMEOUT],
        **takes(
            ChatBody,
            question={"model": "auto", "messages": _QUESTION},
            stream={"model": "auto", "messages": _QUESTION, "stream": True},
            json={
                "model": "auto",
                "messages": _QUESTION,
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": _SCHEMA},
                },
            },
        ),
    },
}

ROUTE: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {"model": RouteReply | RankReply},
        **errors(*BODY, ModelNotFound, ModelUnavailable),
    },
    "openapi_extra": takes(
        Batch,
        queries={
            "queries": ["What is 7 plus 5?", "Sort 52, 31, 90."],
            "router": {"performance_requirement": 0.9},
        },
    ),
}

FEEDBACK: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {"model": FeedbackReply},
        **errors(*BODY, UnknownAnswer, ModelUnavailable),
    },
    "openapi_extra": takes(Feedback, score={"id": "chatcmpl-…", "score": 0.8}),
}

MODELS: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {200: {"model": ModelList}, **errors(*CALLER)},
}

MODEL: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {"model": Model},
        **errors(*CALLER, ModelNotFound),
        # Otherwise FastAPI would document its own validation error, which can't happen here.
        "4XX": {"model": ErrorReply, "description": "Any other client error"},
    },
}

METRICS: dict[str, Any] = {
    "dependencies": KEY,
    "response_class": PlainTextResponse,
    "responses": {
        200: {"description": "The metrics, each with the replica that it is of"},
        **errors(*HEADERS, Unauthenticated, ForbiddenOrigin, NotPermitted),
    },
}

HEALTH: dict[str, Any] = {
    "responses": {
        200: {"model": HealthReply, "description": "A model can answer"},
        503: {"model": HealthReply, "description": "No model can answer"},
        **errors(*HEADERS),
    }
}

LIVE: dict[str, Any] = {"responses": {200: {"model": LiveReply}, **errors(*HEADERS)}}

READY: dict[str, Any] = {
    "responses": {
        200: {"model": ReadyReply, "description": "A model can answer"},
        503: {"model": ReadyReply, "description": "No model can answer"},
        **errors(*HEADERS),
    }
}
