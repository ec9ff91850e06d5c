"""The answers of the provider in OpenAI's wire format, as steps."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ops.bench.fault_server.steps import Attempt, Refusal, Step

TOKENS = 60


def text(word: str = "word") -> str:
    """What a model writes that is asked for text: so many different words, a token each."""
    return " ".join(f"{word}{number}" for number in range(1, TOKENS + 1))


TEXT = text()
OTHER_TEXT = text("other")


def answer(attempt: Attempt, said: str = TEXT) -> list[Step]:
    """A whole answer: an event for each token, then how it ended, the usage and `[DONE]`."""
    body = attempt.body
    if refusal := _refused_prefill(body):
        return [refusal]
    if body.get("tools"):
        deltas, reason = _call(body["tools"][0]["function"]["name"], said), "tool_calls"
    else:
        deltas, reason = [{"content": piece} for piece in _pieces(_left(body, said))], "stop"
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
    """As vLLM does, which wants both said."""
    if body.get("continue_final_message") and body.get("add_generation_prompt", True):
        return bad_request(
            "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
        )
    return None


def _left(body: Mapping[str, Any], said: str) -> str:
    """What is still to be written of the text that is asked for."""
    if body.get("response_format", {}).get("type", "text") != "text":
        said = json.dumps({"words": said.split()})
    if body.get("continue_final_message"):
        return said.removeprefix(body["messages"][-1]["content"])
    return said


def _pieces(said: str) -> list[str]:
    """A token is a word with the space before it."""
    return re.findall(" ?[^ ]+", said)


def _call(name: str, said: str) -> list[dict[str, Any]]:
    first, *rest = _pieces(json.dumps({"words": said.split()}))
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
