"""From the items of `input` to the messages of a chat."""

from collections.abc import Iterable, Mapping
from typing import Any

from deployments.errors import InvalidRequest, UnsupportedParameter
from serve.http.responses.reasoning import said_in

Json = dict[str, Any]


Thoughts = dict[int, list[Any]]
"""Thinking blocks by the index of the message that they begin."""


def messages_of(instructions: str | None, items: str | list[Json]) -> tuple[list[Json], Thoughts]:
    """The chat's messages, and the thinking blocks that providers want back with them.

    What a model said in one go is one message: its reasoning, its text and its calls.

    Raises:
        InvalidRequest: the items don't make a conversation.
    """
    messages: list[Json] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    if isinstance(items, str):
        return [*messages, {"role": "user", "content": items}], {}
    thoughts: Thoughts = {}
    said = _Said()
    calls: set[str] = set()
    for index, item in enumerate(items):
        if item.get("type") in ("function_call", "reasoning") or item.get("role") == "assistant":
            said.add(item)
            if item.get("type") == "function_call":
                calls.add(item["call_id"])
            continue
        said.write(messages, thoughts)
        said = _Said()
        if item.get("type") == "function_call_output":
            if item["call_id"] not in calls:
                raise InvalidRequest(
                    f"no function_call before it has the call_id of 'input.{index}'; send the "
                    "whole conversation in `input`, since nothing is stored here",
                    param=f"input.{index}.call_id",
                )
            messages.append(_output(item))
        else:
            messages.append({"role": item["role"], "content": _content(item, f"input.{index}")})
    said.write(messages, thoughts)
    return messages, thoughts


class _Said:
    """What a model said, until somebody else speaks."""

    def __init__(self) -> None:
        self._reasoning: list[str] = []
        self._blocks: list[Any] = []
        self._texts: list[str] = []
        self._calls: list[Json] = []

    def add(self, item: Json) -> None:
        """Adds an item of a model's answer."""
        if item.get("type") == "reasoning":
            said = said_in(item)
            self._reasoning += filter(None, [said["reasoning"]])
            self._blocks += said["thinking_blocks"]
        elif item.get("type") == "function_call":
            function = {"name": item["name"], "arguments": item["arguments"]}
            self._calls.append({"id": item["call_id"], "type": "function", "function": function})
        else:
            self._texts += _texts(item["content"])

    def write(self, messages: list[Json], thoughts: Thoughts) -> None:
        """Adds the message, if anything was said."""
        if not (self._reasoning or self._blocks or self._texts or self._calls):
            return  # such as reasoning that only another server can read
        if self._blocks:
            thoughts[len(messages)] = self._blocks
        message: Json = {"role": "assistant", "content": self._content()}
        if self._reasoning:
            message["reasoning_content"] = "\n\n".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = self._calls
        messages.append(message)

    def _content(self) -> str | list[Json] | None:
        if len(self._texts) > 1:
            return _text_parts(self._texts)
        if self._texts:
            return self._texts[0]
        return None if self._calls else ""


def _texts(content: str | Iterable[Mapping[str, str]]) -> list[str]:
    """The texts of an answer, refusals included."""
    if isinstance(content, str):
        return [content]
    return [part["refusal"] if part["type"] == "refusal" else part["text"] for part in content]


def _text_parts(texts: Iterable[str]) -> list[Json]:
    return [{"type": "text", "text": text} for text in texts]


def _output(item: Json) -> Json:
    output = item["output"]
    content = output if isinstance(output, str) else _text_parts(part["text"] for part in output)
    return {"role": "tool", "tool_call_id": item["call_id"], "content": content}


def _content(item: Json, path: str) -> str | list[Json]:
    content = item["content"]
    if isinstance(content, str):
        return content
    return [_part(part, f"{path}.content.{index}") for index, part in enumerate(content)]


def _part(part: Json, path: str) -> Json:
    if part["type"] == "input_text":
        return {"type": "text", "text": part["text"]}
    if part.get("file_id") is not None:
        raise UnsupportedParameter(
            f"'{path}.file_id': no files are stored here; send the image itself in `image_url` as "
            "data:image/png;base64,…",
            param=f"{path}.file_id",
        )
    if not part.get("image_url"):
        raise InvalidRequest(f"'{path}.image_url' is missing", param=f"{path}.image_url")
    image = {"url": part["image_url"]}
    if part.get("detail") is not None:
        image["detail"] = part["detail"]
    return {"type": "image_url", "image_url": image}
