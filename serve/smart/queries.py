"""The text that stands for a conversation when similar past queries are looked up."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import to_json

from deployments.contract import ChatRequest
from deployments.store.observations import MAX_QUERY_CHARACTERS
from serve.config.router import QueryChoice

_END = 1000  # characters


def query_of(request: ChatRequest, choice: QueryChoice) -> str:
    """The text; "" if the chosen messages have none, such as images only."""
    users = [_text(message) for message in request.messages if message["role"] == "user"]
    if choice == "last_user_message":
        return users[-1][:MAX_QUERY_CHARACTERS].strip() if users else ""
    if choice == "user_messages":
        return _end(users)
    return _end([_text(message) for message in request.messages])


def conversation_of(request: ChatRequest) -> str:
    """All that was said, each text after the role of its author."""
    texts = ((message["role"], _text(message)) for message in request.messages)
    return "\n\n".join(f"{role}: {text}" for role, text in texts if text)


def prompt_characters(request: ChatRequest) -> int:
    """The length of the prompt: all messages and the tools' descriptions."""
    messages = sum(len(_text(message)) for message in request.messages)
    return messages + (len(to_json(request.tools)) if request.tools else 0)


def _end(texts: Sequence[str]) -> str:
    return "\n".join(text for text in texts if text)[-_END:].strip()


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content.strip()
    return "\n".join(part["text"] for part in content if part["type"] == "text").strip()
