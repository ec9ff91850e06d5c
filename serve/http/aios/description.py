"""What /openapi.json says of the AIOS kernel's endpoints."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from deployments.errors import DeadlineExceeded, LLMError, ModelNotFound, ModelUnavailable
from serve.http.aios.requests import QueryBody, SelectionBody, SetupBody
from serve.http.openapi import (
    ANSWER_HEADERS,
    BODY,
    CALLER,
    KEY,
    TIMEOUT,
    errors,
    header,
    takes,
)


class ToolCall(TypedDict):
    name: str
    parameters: dict[str, Any]
    id: str


class QueryResponse(TypedDict):
    """What became of a query. `status_code` and `error` are those of a failure."""

    response_class: Literal["llm", "memory", "storage", "tool"]
    response_message: str | None
    tool_calls: list[ToolCall] | None
    finished: bool
    error: str | None
    status_code: int
    success: NotRequired[bool]


class QueryReply(TypedDict):
    """The AIOS kernel's reply to a query. The lists of times are empty."""

    response: QueryResponse
    start_times: list[float]
    end_times: list[float]
    waiting_times: list[float]
    turnaround_times: list[float]


class ListedLLM(TypedDict):
    name: str
    backend: str
    hostname: str | None


class LLMList(TypedDict):
    status: Literal["success"]
    llms: list[ListedLLM]


class SelectedLLM(TypedDict):
    name: str


class Selection(TypedDict):
    """`warning` means that no model is selected, so that all may answer."""

    status: Literal["success", "warning"]
    message: str
    llms: list[SelectedLLM]


class Done(TypedDict):
    status: Literal["success"]
    message: str


class Status(TypedDict):
    status: Literal["ok", "warning"]
    message: str
    inactive_components: list[str]


class Detail(TypedDict):
    """The AIOS kernel's error object."""

    detail: str


def _errors(*kinds: type[LLMError]) -> dict[int | str, dict[str, Any]]:
    return {status: {**said, "model": Detail} for status, said in errors(*kinds).items()}


def _described(
    reply: Any, *kinds: type[LLMError], extra: dict[str, Any] | None = None
) -> dict[str, Any]:
    said: dict[str, Any] = {
        "dependencies": KEY,
        "responses": {200: {"model": reply}, **_errors(*kinds)},
    }
    return said if extra is None else {**said, "openapi_extra": extra}


_SELECTION = (*BODY, DeadlineExceeded, ModelNotFound, ModelUnavailable)
_MESSAGES = [{"role": "user", "content": "What is 7 plus 5?"}]
_QUERY = {"query_type": "llm", "agent_name": "demo/agent"}
_LLM = {"name": "gpt-4o-mini", "backend": "openai"}
_TOOL = {
    "type": "function",
    "function": {
        "name": "demo/add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"],
        },
    },
}

QUERY: dict[str, Any] = {
    "dependencies": KEY,
    "responses": {
        200: {
            "model": QueryReply,
            "description": (
                "The reply. What fails after the query has been read is told here, in "
                "`response.error` and `response.status_code`."
            ),
            "headers": {
                **{name: {**told, "required": False} for name, told in ANSWER_HEADERS.items()},
                "x-router-id": header("The answer's id, for /v1/feedback", "string"),
            },
        },
        **_errors(*BODY, DeadlineExceeded),
    },
    "openapi_extra": {
        "parameters": [TIMEOUT],
        **takes(
            QueryBody,
            chat={
                **_QUERY,
                "query_data": {
                    "query_class": "llm",
                    "llms": [_LLM],
                    "messages": _MESSAGES,
                    "tools": None,
                    "action_type": "chat",
                    "temperature": 1.0,
                    "max_new_tokens": 100,
                    "message_return_type": "text",
                    "response_format": None,
                },
            },
            tools={
                **_QUERY,
                "query_data": {
                    "messages": _MESSAGES,
                    "tools": [_TOOL],
                    "action_type": "chat_with_tool_call_output",
                },
            },
            older={
                **_QUERY,
                "query_data": {
                    "messages": _MESSAGES,
                    "tools": [],
                    "action_type": "chat",
                    "message_return_type": "text",
                },
            },
        ),
    },
}
LIST = _described(LLMList, *CALLER)
CORE_STATUS = _described(dict[str, Literal["active", "inactive"]], *CALLER)
STATUS = _described(Status, *CALLER)
SELECT = _described(Selection, *_SELECTION, extra=takes(SelectionBody, one=[_LLM]))
SELECTED = _described(Selection, *CALLER)
SETUP = _described(Done, *_SELECTION, extra=takes(SetupBody, one={"llm_name": "demo-small"}))
CLEANUP = _described(Done, *CALLER, ModelUnavailable)
