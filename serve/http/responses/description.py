"""What /docs and /openapi.json say about the Responses API."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from serve.http.openapi import ANSWER, ANSWER_HEADERS, KEY, TIMEOUT, errors, takes
from serve.http.responses.body import ResponsesBody


class Incomplete(TypedDict):
    reason: Literal["max_output_tokens", "content_filter"]


class InputDetails(TypedDict):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(TypedDict):
    reasoning_tokens: int


class Tokens(TypedDict):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class OutputItem(TypedDict):
    """A `message`, a `function_call` or `reasoning`, with OpenAI's fields of each."""

    id: str
    type: Literal["message", "function_call", "reasoning"]
    status: NotRequired[Literal["completed", "incomplete"]]


class ResponseObject(TypedDict):
    """OpenAI's response. `model` is the model that answered; the parameters of the request are
    repeated."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete"]
    incomplete_details: Incomplete | None
    error: None
    model: str
    output: list[OutputItem]
    usage: Tokens | None
    store: Literal[False]
    background: Literal[False]
    previous_response_id: None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    prompt_cache_key: str | None
    reasoning: dict[str, Any]
    safety_identifier: str | None
    service_tier: str | None
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float | None
    truncation: Literal["disabled"]
    user: str | None


_QUESTION = "What is 7 plus 5?"
_SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
_EVENTS = {
    "example": (
        'event: response.created\ndata: {"type": "response.created", …}\n\n'
        'event: response.completed\ndata: {"type": "response.completed", …}\n\n'
    )
}

RESPONSES: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {
            "model": ResponseObject,
            "description": (
                "The response. With `stream: true`, OpenAI's events from `response.created` to "
                "`response.completed` or `response.incomplete`, whose `response` has a field "
                "`router`: the model, the attempts, the cost, and, if several models wrote the "
                "answer, what was `rescued` and each model's `usage`. If the answer breaks off, "
                "the last event is `response.failed`."
            ),
            "content": {"text/event-stream": _EVENTS},
            "headers": ANSWER_HEADERS,
        },
        **errors(*ANSWER),
    },
    "openapi_extra": {
        "parameters": [TIMEOUT],
        **takes(
            ResponsesBody,
            question={"model": "auto", "input": _QUESTION},
            stream={"model": "auto", "input": _QUESTION, "stream": True},
            json={
                "model": "auto",
                "input": [{"role": "user", "content": _QUESTION}],
                "text": {"format": {"type": "json_schema", "name": "answer", "schema": _SCHEMA}},
            },
        ),
    },
}
