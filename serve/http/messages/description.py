"""What /docs and /openapi.json say of Anthropic's Messages API."""

from itertools import groupby
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from deployments.errors import LLMError, ModelNotFound
from serve.http import openapi
from serve.http.messages.errors import status_of, type_of
from serve.http.messages.schemas import MessagesBody, PromptBody


class CacheTokens(TypedDict):
    ephemeral_5m_input_tokens: int
    ephemeral_1h_input_tokens: int


class OutputDetails(TypedDict):
    thinking_tokens: int


class MessageTokens(TypedDict):
    """`input_tokens` are those that came from no cache and were not written to one."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    cache_creation: CacheTokens
    output_tokens_details: OutputDetails
    service_tier: Literal["standard", "priority", "batch"] | None


class MessageReply(TypedDict):
    """Anthropic's message. `model` is the model that answered."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]
    stop_reason: Literal["end_turn", "max_tokens", "tool_use", "stop_sequence", "refusal"]
    stop_sequence: str | None
    usage: MessageTokens


class CountReply(TypedDict):
    """An estimate."""

    input_tokens: int


class MessageErrorDetail(TypedDict):
    type: str
    message: str
    details: NotRequired[dict[str, Any]]


class MessageError(TypedDict):
    """Anthropic's error object."""

    type: Literal["error"]
    error: MessageErrorDetail
    request_id: str | None


_REQUEST_ID = {"request-id": openapi.header("The request's id, as in the log", "string")}
_RETRY_AFTER = {"retry-after": openapi.header("Seconds after which to retry", "integer")}


def _errors(*kinds: type[LLMError]) -> dict[int | str, dict[str, Any]]:
    """The responses for errors, by status: each error's type and what it means."""
    ordered = sorted(kinds, key=lambda kind: (status_of(kind), type_of(kind), kind.code))
    return {
        status: {
            "model": MessageError,
            "description": "\n".join(
                f"- {type_of(kind)}: {(kind.__doc__ or '').splitlines()[0]}" for kind in of_status
            ),
            "headers": {**_REQUEST_ID, **(_RETRY_AFTER if status in (429, 503, 529) else {})},
        }
        for status, of_status in groupby(ordered, key=status_of)
    }


_QUESTION = [{"role": "user", "content": "What is 7 plus 5?"}]
_SUM = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
_EVENTS = {
    "example": (
        'event: message_start\ndata: {"type": "message_start", …}\n\n…\n\n'
        'event: message_stop\ndata: {"type": "message_stop"}\n\n'
    )
}

MESSAGES: dict[str, Any] = {
    "dependencies": openapi.KEY,
    "responses": {
        200: {
            "model": MessageReply,
            "description": (
                "The answer. With `stream: true`, Anthropic's events; `message_delta` has a field "
                "`router`: the model, the attempts, the cost, and what was `rescued` if several "
                "models wrote the answer. If the answer breaks off, the last event is an `error`."
            ),
            "content": {"text/event-stream": _EVENTS},
            "headers": {**openapi.ANSWER_HEADERS, **_REQUEST_ID},
        },
        **_errors(*openapi.ANSWER),
    },
    "openapi_extra": {
        "parameters": [openapi.TIMEOUT],
        **openapi.takes(
            MessagesBody,
            question={"model": "auto", "max_tokens": 100, "messages": _QUESTION},
            stream={"model": "auto", "max_tokens": 100, "messages": _QUESTION, "stream": True},
            tools={
                "model": "auto",
                "max_tokens": 100,
                "messages": _QUESTION,
                "tools": [{"name": "add", "input_schema": _SUM}],
                "tool_choice": {"type": "any"},
            },
        ),
    },
}

COUNT: dict[str, Any] = {
    "dependencies": openapi.KEY,
    "responses": {
        200: {"model": CountReply, "headers": _REQUEST_ID},
        **_errors(*openapi.BODY, ModelNotFound),
    },
    "openapi_extra": openapi.takes(PromptBody, question={"model": "auto", "messages": _QUESTION}),
}
