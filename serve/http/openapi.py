"""What /docs and /openapi.json tell of the endpoints, which read a request's bytes themselves."""

from itertools import groupby
from typing import Any, Literal, NotRequired

from fastapi import Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from typing_extensions import TypedDict

from deployments.answer import FinishReason
from deployments.config import Capability
from deployments.contract import ChatRequest
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
from deployments.messages import ToolCall
from serve.http.batches import Batch
from serve.http.requests import Feedback
from serve.request import RouterOptions, RoutingWishes

# --- what comes in ---


class ChatBody(RoutingWishes, ChatRequest):
    """OpenAI's chat completions request; an unknown field is refused, one that is null counts as
    left out. `model` is a name of `/v1/models`, or "auto": then `models` is the set that may
    answer, and `router` how one of it is chosen."""

    stream: bool | None = False  # type: ignore[assignment]  # null, too
    router: RouterOptions | None = RouterOptions()  # type: ignore[assignment]


# --- what goes out ---


class ErrorDetail(TypedDict):
    """`code` is for programs, `message` for people; `param` is the field at fault."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorReply(TypedDict):
    """OpenAI's error object."""

    error: ErrorDetail


class Logprobs(TypedDict):
    content: list[dict[str, Any]]


class AnswerMessage(TypedDict):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: NotRequired[str]
    tool_calls: NotRequired[list[ToolCall]]


class Choice(TypedDict):
    index: Literal[0]
    message: AnswerMessage
    logprobs: Logprobs | None
    finish_reason: FinishReason


class PromptDetails(TypedDict):
    cached_tokens: int
    cache_creation_tokens: int


class CompletionDetails(TypedDict):
    reasoning_tokens: int


class Tokens(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class ChatCompletion(TypedDict):
    """OpenAI's completion. `model` is the one that answered."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Tokens


class Model(TypedDict):
    """OpenAI's model object, and what a caller may want to know beside it. Costs are USD for one
    token; `parent` is the model that an adapter adapts; `created` is when the application was
    deployed. The `context_window` in tokens, of "auto" the largest, is null until it is known."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    capabilities: list[Capability]
    available: bool
    parent: NotRequired[str]
    context_window: int | None
    cost_per_input_token: NotRequired[float | None]
    cost_per_output_token: NotRequired[float | None]


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[Model]


class Candidate(TypedDict):
    """What is predicted of one model for one query; the cost in USD."""

    model: str
    quality: float
    uncertainty: float
    output_tokens: float
    cost: float


class Neighbour(TypedDict):
    """A past query like this one."""

    id: int
    similarity: float
    query: str | None


class Routed(TypedDict):
    index: int
    model: str
    reason: str
    candidates: list[Candidate]
    neighbours: NotRequired[list[Neighbour]]  # where `llms.router.show_queries` is set


class RouteReply(TypedDict):
    """The choice for each query in `data`, and of all together the quality and cost predicted.
    `shortfall` is what the quality lacks of the requirement, `gap` how far the cost may be above
    the least, `lower_bound`."""

    object: Literal["list"]
    performance_requirement: float
    mode: Literal["mean", "floor"]
    quality: float
    shortfall: float
    cost: float
    multiplier: float | None
    lower_bound: float
    gap: float | None
    cold_start: bool
    data: list[Routed]


class FeedbackReply(TypedDict):
    object: Literal["feedback"]
    id: str
    score: float


class HealthReply(TypedDict):
    status: Literal["ok", "unavailable"]


class LiveReply(TypedDict):
    status: Literal["live"]


class ModelHealth(TypedDict):
    available: bool
    status: str
    replicas: int
    message: str


class ReadyReply(TypedDict):
    """ "degraded": some models can't answer, or the store can't; "unavailable": no model can."""

    status: Literal["ready", "degraded", "unavailable"]
    models: dict[str, ModelHealth]
    store: NotRequired[dict[str, Any]]


# --- the operations: what the endpoints' decorators take ---

_JSON = "application/json"
# What is told before any endpoint is reached: of its headers, then of its caller; then of a body.
_HEADERS = (InvalidRequest, HeadersTooLarge)
_CALLER = (*_HEADERS, Unauthenticated, ForbiddenOrigin, Overloaded, QuotaExceeded)
_BODY = (*_CALLER, RequestTimeout, RequestTooLarge, UnsupportedParameter)


def _header(description: str, type: str, *, always: bool = False) -> dict[str, Any]:
    return {"description": description, "schema": {"type": type}, "required": always}


_RETRY_AFTER = _header("Seconds after which a new try makes sense, where known", "integer")


def _errors(*kinds: type[LLMError]) -> dict[int | str, dict[str, Any]]:
    """The responses for errors: by status, each with its codes and what they mean."""
    told = sorted(kinds, key=lambda kind: (kind.status, kind.code))
    return {
        status: {
            "model": ErrorReply,
            "description": "\n".join(
                f"- `{kind.code}`: {(kind.__doc__ or '').splitlines()[0]}" for kind in of_status
            ),
            **({"headers": {"retry-after": _RETRY_AFTER}} if status in (429, 503) else {}),
        }
        for status, of_status in groupby(told, key=lambda kind: kind.status)
    }


def _takes(model: type[BaseModel], **examples: Any) -> dict[str, Any]:
    """A request's body, which is not among its endpoint's parameters."""
    content = {
        "schema": _in_one_piece(model.model_json_schema()),
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {_JSON: content}}}


def _in_one_piece(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without definitions of its own, which would have no place in the document."""
    definitions = schema.pop("$defs", {})

    def whole(part: Any) -> Any:
        if isinstance(part, list):
            return [whole(inner) for inner in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return whole(definitions[part["$ref"].removeprefix("#/$defs/")])
        # A discriminator names definitions; the constants of a `oneOf` tell its members apart, too.
        return {key: whole(inner) for key, inner in part.items() if key != "discriminator"}

    pieces: dict[str, Any] = whole(schema)
    return pieces


_QUESTION = [{"role": "user", "content": "What is 7 plus 5?"}]
_SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
_TIMEOUT = {
    "name": "x-request-timeout-seconds",
    "in": "header",
    "description": "Seconds that the request has, with all its attempts; at most the server's own",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
# OpenAPI 3.1 has no schema for events (3.2's is `itemSchema`), and one of the whole text would say
# nothing.
_EVENTS = {"example": 'data: {"object": "chat.completion.chunk", …}\n\ndata: [DONE]\n\n'}

# It only describes: serve/access/gate.py asks for the key.
_KEY = [
    Security(
        HTTPBearer(
            scheme_name="bearer", description="A key, where the server has any", auto_error=False
        )
    )
]

CHAT: dict[str, Any] = {
    "dependencies": _KEY,
    "responses": {
        200: {
            "model": ChatCompletion,
            "description": (
                "The answer. With `stream: true`, events of which each holds a "
                "`chat.completion.chunk`, and the last one `[DONE]`. The chunk with the "
                "`finish_reason` has a field `router`: the model, the attempts, the cost, and, of "
                "an answer by several models, what was `rescued` and each one's `usage`. If the "
                "answer breaks off, the last event holds an `error`."
            ),
            "content": {"text/event-stream": _EVENTS},
            "headers": {
                "x-router-model": _header("Who answered", "string", always=True),
                "x-router-strategy": _header("How it was chosen", "string", always=True),
                "x-router-attempts": _header("Times a provider was asked", "integer", always=True),
                "x-router-reason": _header("Why it was chosen, of smart routing", "string"),
                "x-router-cost": _header("USD, of a whole answer with a known price", "number"),
            },
        },
        **_errors(
            *_BODY,
            ContextLengthExceeded,
            ContentFiltered,
            ModelNotFound,
            RateLimited,
            ProviderRejected,
            ProviderError,
            Unreachable,
            ModelUnavailable,
            DeadlineExceeded,
        ),
    },
    "openapi_extra": {
        "parameters": [_TIMEOUT],
        **_takes(
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
    "dependencies": _KEY,
    "responses": {
        200: {"model": RouteReply},
        **_errors(*_BODY, ModelNotFound, ModelUnavailable),
    },
    "openapi_extra": _takes(
        Batch,
        queries={
            "queries": ["What is 7 plus 5?", "Sort 52, 31, 90."],
            "router": {"performance_requirement": 0.9},
        },
    ),
}

FEEDBACK: dict[str, Any] = {
    "dependencies": _KEY,
    "responses": {
        200: {"model": FeedbackReply},
        **_errors(*_BODY, UnknownAnswer, ModelUnavailable),
    },
    "openapi_extra": _takes(Feedback, score={"id": "chatcmpl-…", "score": 0.8}),
}

MODELS: dict[str, Any] = {
    "dependencies": _KEY,
    "responses": {200: {"model": ModelList}, **_errors(*_CALLER)},
}

MODEL: dict[str, Any] = {
    "dependencies": _KEY,
    "responses": {
        200: {"model": Model},
        **_errors(*_CALLER, ModelNotFound),
        # Or FastAPI would add an error of its own kind, for a path that is always a string.
        "4XX": {"model": ErrorReply, "description": "Any other refusal"},
    },
}

HEALTH: dict[str, Any] = {
    "responses": {
        200: {"model": HealthReply, "description": "A model can answer"},
        503: {"model": HealthReply, "description": "No model can answer"},
        **_errors(*_HEADERS),
    }
}

LIVE: dict[str, Any] = {"responses": {200: {"model": LiveReply}, **_errors(*_HEADERS)}}

READY: dict[str, Any] = {
    "responses": {
        200: {"model": ReadyReply, "description": "A model can answer"},
        503: {"model": ReadyReply, "description": "No model can answer"},
        **_errors(*_HEADERS),
    }
}
