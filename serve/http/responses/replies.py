"""From an answer to OpenAI's `response` object and the items of its output.

Source: https://platform.openai.com/docs/api-reference/responses/object
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from deployments.answer import FinishReason
from deployments.contract import Chunk, ToolCallDelta, Usage
from serve.answer import Answer
from serve.http.responses.reasoning import blocks_of, seal
from serve.http.responses.requests import ResponsesRequest

Json = dict[str, Any]

# Why an answer is not complete.
_INCOMPLETE: Mapping[FinishReason | None, str] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}
# The tiers that OpenAI's clients know.
_TIERS = frozenset({"auto", "default", "flex", "scale", "priority", "fast"})


def response(request: ResponsesRequest, answer: Answer, whole: Chunk) -> Json:
    """The `response` object for a whole answer."""
    output = _output(whole, request.seals_reasoning)
    return ended(begun(request, answer), answer, output, whole.finish_reason)


def begun(request: ResponsesRequest, answer: Answer) -> Json:
    """The `response` object of an answer that has begun: it repeats what was asked."""
    return {
        "id": answer.id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": answer.model,
        "output": [],
        "usage": None,
        **request.asked,
    }


def ended(head: Json, answer: Answer, output: list[Json], reason: FinishReason | None) -> Json:
    """The `response` object of an answer that has ended.

    Args:
        head: the object as it was when the answer began.
        answer: the answer.
        output: its items.
        reason: why it ended.
    """
    why = _INCOMPLETE.get(reason)
    usage = answer.total_usage
    tier = usage and usage.service_tier
    return {
        **head,
        "status": "incomplete" if why else "completed",
        "completed_at": None if why else int(time.time()),
        "incomplete_details": {"reason": why} if why else None,
        "model": answer.model,
        "output": output,
        "service_tier": tier if tier in _TIERS else head["service_tier"],
        "usage": _usage(usage),
    }


def is_incomplete(reason: FinishReason | None) -> bool:
    """Whether an answer that ended for this reason is not complete."""
    return reason in _INCOMPLETE


def _output(whole: Chunk, seals: bool) -> list[Json]:
    items = []
    blocks = blocks_of(whole)
    if whole.reasoning or blocks:
        items.append(reasoning_item(new_id("rs"), whole.reasoning, blocks, seals=seals))
    calls = [call_item(new_id("fc"), call) for call in whole.tool_calls]
    if whole.text or not (calls or is_incomplete(whole.finish_reason)):
        items.append(message_item(new_id("msg"), whole.text, whole.logprobs))
    items += calls
    if items and is_incomplete(whole.finish_reason):
        items[-1]["status"] = "incomplete"
    return items


# --- items ---


def new_id(kind: str) -> str:
    """A fresh id for an item."""
    return f"{kind}_{uuid4().hex}"


def reasoning_item(
    id: str, text: str, blocks: Sequence[Mapping[str, Any]] = (), *, seals: bool = False
) -> Json:
    """An item of reasoning. Its text is the summary: that is what clients show and send back; few
    read `content`, where servers of open models put it.

    Args:
        id: the item's.
        text: the reasoning.
        blocks: thinking blocks; they are sealed whether or not the caller asks for it, since
            nothing else brings them back.
        seals: whether the caller asks for it.
    """
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: Json = {"id": id, "type": "reasoning", "summary": summary}
    if blocks or (seals and text):
        item["encrypted_content"] = seal(text, blocks)
    return item


def message_item(id: str, text: str, logprobs: Iterable[Mapping[str, Any]] = ()) -> Json:
    """An item of text."""
    return {
        "id": id,
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [text_part(text, logprobs)],
    }


def text_part(text: str, logprobs: Iterable[Mapping[str, Any]] = ()) -> Json:
    """A message's only part."""
    entries = [logprob(entry) for entry in logprobs]
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": entries}


def call_item(id: str, call: ToolCallDelta, status: str = "completed") -> Json:
    """An item of a call. Its own id is not the call's, to which the output refers."""
    return {
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def logprob(entry: Mapping[str, Any]) -> Json:
    """A token's, from the entry of a chat, whose bytes may be null."""
    alternatives = entry.get("top_logprobs") or ()
    return {**_token(entry), "top_logprobs": [_token(other) for other in alternatives]}


def _token(entry: Mapping[str, Any]) -> Json:
    return {
        "token": entry.get("token", ""),
        "logprob": entry.get("logprob"),
        "bytes": entry.get("bytes") or [],
    }


def _usage(usage: Usage | None) -> Json | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_written_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
