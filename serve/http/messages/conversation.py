"""From Anthropic's system prompt and messages to those of the contract.

A message's blocks become OpenAI's parts, tool calls and tool messages, in their order.
"""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import to_json

from deployments.errors import InvalidRequest
from serve.http.messages.schemas import (
    Assistant,
    Content,
    Document,
    EncodedText,
    Image,
    PromptBody,
    RedactedThinking,
    System,
    Text,
    Thinking,
    ToolResult,
    ToolUse,
    User,
    WrittenText,
)

Message = dict[str, Any]
Part = dict[str, Any]
Thought = dict[str, Any]

# Models of other providers know no field for it.
_FAILED = "Error: "


def conversation_of(body: PromptBody) -> tuple[list[Message], dict[int, list[Thought]]]:
    """The messages, the system prompt first; and the blocks of reasoning that messages of the
    assistant begin with, as they were sent, by the messages' indices.

    Raises:
        InvalidRequest: a document's text can't be decoded.
    """
    messages: list[Message] = []
    thoughts: dict[int, list[Thought]] = {}
    if body.system:
        messages.append({"role": "system", "content": _texts(body.system)})
    for at, turn in enumerate(body.messages):
        match turn:
            case User():
                messages += _user(turn, f"messages.{at}.content")
            case Assistant():
                if blocks := _thoughts(turn):
                    thoughts[len(messages)] = blocks
                messages.append(_assistant(turn))
            case System():
                messages.append({"role": "system", "content": _texts(turn.content)})
    if body.cache_control is not None:
        _mark(messages, body.cache_control)
    return messages, thoughts


def is_begun_answer(body: PromptBody) -> bool:
    """Whether the last message is the beginning of the answer."""
    last = body.messages[-1]
    if not isinstance(last, Assistant):
        return False
    if isinstance(last.content, str):
        return bool(last.content)
    texts = [block for block in last.content if isinstance(block, WrittenText) and block.text]
    return bool(texts) and not any(isinstance(block, ToolUse) for block in last.content)


# --- users ---


def _user(turn: User, where: str) -> list[Message]:
    """Tool results must follow their calls at once, so they come first. OpenAI's have text alone:
    the images in them follow in a message of the user."""
    if isinstance(turn.content, str):
        return [{"role": "user", "content": turn.content}]
    results: list[Message] = []
    parts: list[Part] = []
    for at, block in enumerate(turn.content):
        if isinstance(block, ToolResult):
            texts, images = _result(block, f"{where}.{at}.content")
            results.append({"role": "tool", "tool_call_id": block.tool_use_id, "content": texts})
            if images:
                parts.append(_part(f"Images in the result of the tool call {block.tool_use_id}:"))
                parts += images
        else:
            parts += _shown(block, f"{where}.{at}")
    return [*results, *([{"role": "user", "content": _plain(parts)}] if parts else [])]


def _result(result: ToolResult, where: str) -> tuple[str | list[Part], list[Part]]:
    """A tool result's text, and its images."""
    given = result.content or ""
    parts = (
        [_part(given)]
        if isinstance(given, str)
        else [part for at, block in enumerate(given) for part in _shown(block, f"{where}.{at}")]
    )
    texts = [part for part in parts if part["type"] == "text"] or [_part("")]
    if result.is_error:
        texts[0] = {**texts[0], "text": _FAILED + texts[0]["text"]}
    if result.cache_control is not None:
        texts[-1] = {**texts[-1], "cache_control": result.cache_control}
    return _plain(texts), [part for part in parts if part["type"] != "text"]


def _shown(block: Text | Image | Document, where: str) -> Iterator[Part]:
    match block:
        case Text():
            yield _part(block.text, block.cache_control)
        case Image():
            source = block.source
            url = (
                source.url
                if source.type == "url"
                else f"data:{source.media_type};base64,{source.data}"
            )
            yield _cached({"type": "image_url", "image_url": {"url": url}}, block.cache_control)
        case Document():
            heading = [text for text in (block.title, block.context) if text]
            text = "\n\n".join([*heading, _text_of(block, f"{where}.source.data")])
            yield _part(text, block.cache_control)


def _text_of(document: Document, where: str) -> str:
    source = document.source
    match source:
        case Content():
            given = source.content
            return given if isinstance(given, str) else "\n\n".join(text.text for text in given)
        case EncodedText():
            try:
                return base64.b64decode(source.data, validate=True).decode()
            except ValueError:
                raise InvalidRequest(f"{where}: not UTF-8 text in base64", param=where) from None
        case _:
            return source.data


# --- the assistant ---


def _assistant(turn: Assistant) -> Message:
    if isinstance(turn.content, str):
        return {"role": "assistant", "content": turn.content}
    texts = [
        _part(block.text, block.cache_control)
        for block in turn.content
        if isinstance(block, WrittenText)
    ]
    thoughts = [
        block.thinking for block in turn.content if isinstance(block, Thinking) and block.thinking
    ]
    calls = [_call(block) for block in turn.content if isinstance(block, ToolUse)]
    message: Message = {"role": "assistant", "content": _plain(texts) if texts else None}
    if not (texts or calls):
        message["content"] = ""
    if thoughts:
        message["reasoning_content"] = "\n\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _thoughts(turn: Assistant) -> list[Thought]:
    if isinstance(turn.content, str):
        return []
    kinds = Thinking | RedactedThinking
    return [block.model_dump() for block in turn.content if isinstance(block, kinds)]


def _call(use: ToolUse) -> dict[str, Any]:
    function = {"name": use.name, "arguments": to_json(use.input).decode()}
    return {"id": use.id, "type": "function", "function": function}


# --- parts ---


def _texts(given: str | Sequence[Text]) -> str | list[Part]:
    if isinstance(given, str):
        return given
    return _plain([_part(text.text, text.cache_control) for text in given])


def _part(text: str, cache_control: dict[str, Any] | None = None) -> Part:
    return _cached({"type": "text", "text": text}, cache_control)


def _cached(part: Part, cache_control: dict[str, Any] | None) -> Part:
    return part if cache_control is None else {**part, "cache_control": cache_control}


def _plain(parts: list[Part]) -> str | list[Part]:
    """One text as a string, which every chat template understands."""
    if len(parts) == 1 and parts[0].keys() == {"type", "text"}:
        text: str = parts[0]["text"]
        return text
    return parts


def _mark(messages: list[Message], cache_control: dict[str, Any]) -> None:
    """Marks the last part that a provider can cache, as a request's own `cache_control` asks."""
    for message in reversed(messages):
        if message["role"] == "assistant":
            continue
        content = message["content"]
        parts = [_part(content)] if isinstance(content, str) else content
        message["content"] = [*parts[:-1], {"cache_control": cache_control, **parts[-1]}]
        return
