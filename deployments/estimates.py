"""Estimates the length of a text in tokens where there is no tokenizer: four bytes a token."""

import json
from collections.abc import Iterator
from math import ceil
from typing import Any

from deployments.request import ChatRequest

TOKEN_BYTES = 4


def tokens(text: str) -> int:
    """About how many tokens a text has."""
    return ceil(len(text.encode(errors="replace")) / TOKEN_BYTES)


def prompt_tokens(request: ChatRequest) -> int:
    """About how many tokens the messages and tools of a request have, without images."""
    return max(1, sum(map(tokens, _texts(request))))


def _texts(request: ChatRequest) -> Iterator[str]:
    messages: list[Any] = list(request.messages)
    for message in messages:
        content = message.get("content") or ""
        if isinstance(content, str):
            yield content
        else:
            yield from (part["text"] for part in content if part["type"] == "text")
        yield from (json.dumps(call) for call in message.get("tool_calls") or ())
    yield from (json.dumps(tool) for tool in request.tools or ())
