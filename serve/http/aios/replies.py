"""From an answer, or a failure, to what the AIOS SDK reads of a query.

Source: the classes `LLMResponse`, `ToolResponse`, `StorageResponse` and `MemoryResponse` of
https://github.com/agiresearch/Cerebrum, and the kernel's `SyscallExecutor`
(https://github.com/agiresearch/AIOS/blob/main/aios/syscall/syscall.py).
"""

from http import HTTPStatus
from typing import Any

import pydantic_core

from deployments.contract import Chunk, ToolCallDelta
from deployments.errors import LLMError, ProviderError

# Actions whose tool calls the kernel runs itself, by the manager that does it.
_MANAGERS = {"call_tool": "tool", "tool_use": "tool", "operate_file": "storage"}
_NOT_RUN = {
    "tool": "no tool was called",
    "storage": "no file was touched",
}


def whole(answer: Chunk, action: str) -> dict[str, Any]:
    """The reply for a whole answer.

    An action that needs a manager is not done: its reply has the calls that the model chose, an
    error that says who must run them, and the status 501. The SDK doesn't read that status, so an
    agent gets the calls; one that looks at it learns that they have not been run.

    Raises:
        ProviderError: the model wrote arguments that are not a JSON object.
    """
    calls = [_tool_call(call) for call in answer.tool_calls]
    text = answer.text if answer.text or not calls else None
    manager = _MANAGERS.get(action)
    if not calls or manager is None:
        return _reply("llm", text, calls=calls)
    error = (
        f"this server has no {manager} manager, so {_NOT_RUN[manager]}: run `tool_calls` yourself, "
        "and send their results in the next query's messages"
    )
    said = f"{text}\n\n{error}" if text else error
    return _reply("llm", said, calls=calls, error=error, status=HTTPStatus.NOT_IMPLEMENTED)


def failure(error: LLMError) -> dict[str, Any]:
    """The reply for a query that no model could answer. Agents show or store `response_message`
    unseen, so it says so, too, as the kernel's does."""
    message = f"LLM Error: {error.message}"
    return _reply("llm", message, error=error.message, status=error.status)


def no_manager(kind: str) -> dict[str, Any]:
    """The reply for a query for another of the kernel's managers."""
    error = (
        f"this server has no {kind} manager, only LLMs: send queries of the type '{kind}' to an "
        "AIOS kernel, or leave them out"
    )
    reply = _reply(kind, error, error=error, status=HTTPStatus.NOT_IMPLEMENTED)
    if kind == "memory":
        reply["response"]["success"] = False
    return reply


def _reply(
    kind: str,
    message: str | None,
    *,
    calls: list[dict[str, Any]] | None = None,
    error: str | None = None,
    status: int = 200,
) -> dict[str, Any]:
    return {
        "response": {
            "response_class": kind,
            "response_message": message,
            "tool_calls": calls or None,
            "finished": True,
            "error": error,
            "status_code": int(status),
        },
        # Those of a query that was scheduled more than once, of which there are none here.
        "start_times": [],
        "end_times": [],
        "waiting_times": [],
        "turnaround_times": [],
    }


def _tool_call(call: ToolCallDelta) -> dict[str, Any]:
    try:
        parameters = pydantic_core.from_json(call.arguments or "{}")
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise ProviderError(
            f"the model called '{call.name}' with arguments that are not a JSON object; ask again"
        )
    return {"name": call.name, "parameters": parameters, "id": call.id}
