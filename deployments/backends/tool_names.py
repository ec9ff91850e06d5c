"""Tool names that every provider accepts, mapped back to the caller's own in answers."""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import chain, count
from typing import Any

from deployments.contract import ChatRequest

# What OpenAI allows; the other providers allow at least this.
_ALLOWED = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_LENGTH = 64
_DIGEST = 8


class ToolNames:
    """A one-to-one mapping between the tool names of one request and names that are allowed.

    An allowed name is kept. In others `/` becomes `__` and any other character `_`; if the result
    is too long or another tool's name, its end is replaced by a digest of the original.
    """

    def __init__(self, names: Iterable[str]) -> None:
        unique = list(dict.fromkeys(names))
        self._sent = {name: name for name in unique if _ALLOWED.fullmatch(name)}
        taken = set(self._sent)
        for name in unique:
            if name not in self._sent:
                self._sent[name] = next(safe for safe in _candidates(name) if safe not in taken)
                taken.add(self._sent[name])
        self._original = {safe: name for name, safe in self._sent.items()}

    @classmethod
    def of(cls, request: ChatRequest) -> "ToolNames":
        """The mapping for the tools that a request offers and those that its history names."""
        offered = (tool["function"]["name"] for tool in request.tools or ())
        called = (
            call["function"]["name"]
            for message in request.messages
            if message["role"] == "assistant"
            for call in message.get("tool_calls") or ()
        )
        return cls(chain(offered, called))

    def sent(self, name: str) -> str:
        """The name that is sent to the provider for a tool of the request."""
        return self._sent[name]

    def original(self, name: str) -> str:
        """The caller's name for one that the provider sent; an unknown one is kept."""
        return self._original.get(name, name)

    def messages(self, request: ChatRequest) -> list[dict[str, Any]]:
        """The request's messages, with sent names for the tools in them."""
        return [self._message(message) for message in request.messages]

    def tools(self, request: ChatRequest) -> list[dict[str, Any]]:
        """The request's tools with sent names, without fields that are null."""
        return [
            {**tool, "function": self._renamed(_set(tool["function"]))}
            for tool in request.tools or ()
        ]

    def tool_choice(self, request: ChatRequest) -> Any:
        """The request's `tool_choice`, with the sent name if it names a tool."""
        if request.named_tool is None:
            return request.tool_choice
        return {"type": "function", "function": {"name": self.sent(request.named_tool)}}

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        message = _set(message)
        if message["role"] == "tool":
            message.pop("name", None)  # the call has it, and some providers reject it here
        if message["role"] != "assistant":
            return message
        calls = [
            {**call, "function": self._renamed(call["function"])}
            for call in message.pop("tool_calls", ())
        ]
        # Some providers reject an empty list, others an assistant message without `content`.
        return {"content": None, **message} | ({"tool_calls": calls} if calls else {})

    def _renamed(self, function: Mapping[str, Any]) -> dict[str, Any]:
        return {**function, "name": self.sent(function["name"])}


def _candidates(name: str) -> Iterable[str]:
    """Allowed names for `name`, best first, without end."""
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", name.replace("/", "__"))
    if 0 < len(plain) <= _LENGTH:
        yield plain
    for attempt in count():
        digest = sha256(f"{attempt}{name}".encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
        yield f"{plain[: _LENGTH - _DIGEST - 1]}_{digest}"


def _set(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
