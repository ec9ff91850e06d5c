"""The provider's answers in OpenAI's wire format, as steps."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ops.bench.fault_server.steps import Attempt, Refusal, Step

TOKENS = 60


def _words(word: str = "word") -> str:
    """The text that a model writes: `TOKENS` different words, each a token."""
    return " ".join(f"{word}{number}" for number in range(1, TOKENS + 1))


TEXT = _words()
OTHER_TEXT = _words("other")


def answer(attempt: Attempt, text: str = TEXT) -> list[Step]:
    """A complete answer: an event for each token, the finish reason, the usage and `[DONE]`."""
    body = attempt.body
    if refusal := _refused_prefill(body):
        return [refusal]
    if body.get("tools"):
        deltas, reason = _tool_call(body["tools"][0]["function"]["name"], text), "tool_calls"
    else:
        deltas, reason = [{"content": piece} for piece in _tokens(_remaining(body, text))], "stop"
    prompt = sum(len(str(message.get("content")).split()) for message in body["messages"])
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": len(deltas),
        "total_tokens": prompt + len(deltas),
    }
    return [
        *(_event(body, choices=[_choice(delta=delta)]) for delta in deltas),
        _event(body, choices=[_choice(finish_reason=reason)]),
        _event(body, choices=[], usage=usage),
        "data: [DONE]\n\n",
    ]


def _refused_prefill(body: Mapping[str, Any]) -> Refusal | None:
    """The error that vLLM gives unless a prefill comes with both of its flags."""
    if body.get("continue_final_message") and body.get("add_generation_prompt", True):
        return bad_request(
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
        )
    return None


def _remaining(body: Mapping[str, Any], text: str) -> str:
    """The part of the text that is left to write after a prefill."""
    if body.get("response_format", {}).get("type", "text") != "text":
        text = json.dumps({"words": text.split()})
    if body.get("continue_final_message"):
        return text.removeprefix(body["messages"][-1]["content"])
    return text


def _tokens(text: str) -> list[str]:
    """The tokens of a text: its words, each with the space before it."""
    return re.findall(" ?[^ ]+", text)


def _tool_call(name: str, text: str) -> list[dict[str, Any]]:
    first, *rest = _tokens(json.dumps({"words": text.split()}))
    function = {"name": name, "arguments": first}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    more = [{"index": 0, "function": {"arguments": piece}} for piece in rest]
    return [{"tool_calls": [piece]} for piece in (call, *more)]


def _choice(**fields: Any) -> dict[str, Any]:
    return {"index": 0, "delta": {}, "finish_reason": None, **fields}


def _event(body: Mapping[str, Any], **fields: Any) -> str:
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
    return f"data: {json.dumps({**head, **fields})}\n\n"


def bad_request(message: str, **more: str) -> Refusal:
    return Refusal(400, {"message": message, "type": "invalid_request_error", **more})
