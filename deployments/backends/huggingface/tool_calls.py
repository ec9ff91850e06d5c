"""Reads what a model writes, as it comes, into text and tool calls."""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic_core import from_json

from deployments.contract import Chunk, ToolCallDelta
from deployments.messages import Tool


@dataclass(frozen=True, slots=True)
class Call:
    """One call: a tool's name and its arguments, a JSON object."""

    name: str
    arguments: str


class AnswerReader(Protocol):
    """Takes an answer in pieces and gives chunks of it, in order and nothing twice.

    What it gives over the whole answer does not depend on how the answer was cut into pieces.
    """

    @property
    def called(self) -> bool:
        """Whether a tool was called so far."""
        ...

    @property
    def ended(self) -> bool:
        """Whether nothing more is wanted: the model may stop."""
        ...

    def feed(self, text: str) -> Iterator[Chunk]:
        """What is certain after `text`; the rest is held back."""
        ...

    def finish(self) -> Iterator[Chunk]:
        """What was held back, now that nothing follows."""
        ...


class TextReader:
    """An answer without tools: all of it is text."""

    called = False
    ended = False

    def feed(self, text: str) -> Iterator[Chunk]:
        if text:
            yield Chunk(text=text)

    def finish(self) -> Iterator[Chunk]:
        return iter(())


class ArgumentsReader:
    """An answer that is the arguments of one tool, chosen beforehand."""

    called = True
    ended = False

    def __init__(self, name: str) -> None:
        self._first: ToolCallDelta | None = _delta(0, Call(name, ""))

    def feed(self, text: str) -> Iterator[Chunk]:
        if self._first:
            yield Chunk(tool_calls=(self._first,))
            self._first = None
        if text:
            yield Chunk(tool_calls=(ToolCallDelta(index=0, arguments=text),))

    def finish(self) -> Iterator[Chunk]:
        return self.feed("")


_OPEN_TAG, _CLOSE_TAG, _FENCE = "<tool_call>", "</tool_call>", "```"


def _beginnings(mark: str) -> str:
    """A pattern of every beginning of `mark`, the longest first."""
    return "|".join(re.escape(mark[:length]) for length in range(len(mark), 0, -1))


# Where a call may begin: a JSON value, bare, tagged or in a fenced block of whatever language.
_START = re.compile(rf"(?:(?P<mark>{_OPEN_TAG}|{_FENCE})\w*\s*)?(?P<json>[\[{{])")
# What may turn out to be the beginning of a start, at the end of what was read so far.
_PERHAPS = re.compile(rf"\s*(?:(?:{_beginnings(_OPEN_TAG)})\s*|{_FENCE}\w*\s*|`{{1,2}})?\Z")
# What stands after a call and belongs to none of the text: its closing mark, commas, white space.
_AFTER = {
    mark: (
        re.compile(rf"[\s,;]*(?:{re.escape(close)}[\s,;]*)?"),
        re.compile(rf"[\s,;]*(?:(?:{_beginnings(close)})[\s,;]*)?\Z"),
    )
    for mark, close in ((_OPEN_TAG, _CLOSE_TAG), (_FENCE, _FENCE))
}
_AFTER[""] = (re.compile(r"[\s,;]*"), re.compile(r"[\s,;]*\Z"))


class CallReader:
    """An answer in which calls may stand, as models write them, alone or amid text.

    Understood are a JSON object or a list of them, bare, in a fenced block or in `<tool_call>`
    tags: {"name", "arguments"}, {"name", "parameters"}, {"function": {…}}, {"tool_calls": […]}.
    What is no call of an offered tool stays text, JSON included; so does JSON that is cut off.

    Args:
        tools: those offered.
        single: read one call at most and nothing after it.
    """

    def __init__(self, tools: Sequence[Tool], *, single: bool = False) -> None:
        self._tools = {tool["function"]["name"]: tool["function"] for tool in tools}
        self._single = single
        self._held = ""
        self._after: str | None = None  # the mark of the call just read, till its end is read too
        self._count = 0

    @property
    def called(self) -> bool:
        return self._count > 0

    @property
    def ended(self) -> bool:
        return self._single and self.called

    def feed(self, text: str) -> Iterator[Chunk]:
        self._held += text
        yield from self._read(last=False)

    def finish(self) -> Iterator[Chunk]:
        yield from self._read(last=True)

    def _read(self, *, last: bool) -> Iterator[Chunk]:
        while self._held and not self.ended:
            if self._after is not None:
                whole, unfinished = _AFTER[self._after]
                if not last and unfinished.match(self._held):
                    return
                self._held = whole.sub("", self._held, count=1)
                self._after = None
                continue
            start = _START.search(self._held)
            if start is None:
                perhaps = None if last else _PERHAPS.search(self._held)
                yield from self._text(perhaps.start() if perhaps else len(self._held))
                return
            json_text = self._held[start.start("json") :]
            # White space before a call is no text, so it waits with it.
            before = len(self._held[: start.start()].rstrip())
            try:
                value, length = _DECODER.raw_decode(json_text)
            except (ValueError, RecursionError):
                if not _may_become_json(json_text):
                    yield from self._text(start.end())
                    continue
                yield from self._text(len(self._held) if last else before)
                return
            end = start.start("json") + length
            if calls := read_calls(value, self._tools):
                yield from self._text(before)
                yield self._calls(calls[:1] if self._single else calls)
                self._held = self._held[end - before :]
                self._after = start["mark"] or ""
            else:
                yield from self._text(end)

    def _text(self, length: int) -> Iterator[Chunk]:
        """The first `length` characters of what is held."""
        text, self._held = self._held[:length], self._held[length:]
        if text:
            yield Chunk(text=text)

    def _calls(self, calls: list[Call]) -> Chunk:
        deltas = tuple(_delta(self._count + i, call) for i, call in enumerate(calls))
        self._count += len(calls)
        return Chunk(tool_calls=deltas)


class TemplateReader:
    """An answer read by the model's own response template: text, reasoning and calls.

    Args:
        parser: transformers' `ResponseParser`, which has seen the prompt.
        tools: those offered; a call of any other stays text.
        single: read one call at most and nothing after it.
    """

    def __init__(self, parser: Any, tools: Sequence[Tool], *, single: bool = False) -> None:
        self._parser = parser
        self._tools = {tool["function"]["name"]: tool["function"] for tool in tools}
        self._single = single
        self._count = 0
        self._region = ""  # what was written into a region that is parsed when it closes
        self._broken = False

    @property
    def called(self) -> bool:
        return self._count > 0

    @property
    def ended(self) -> bool:
        return self._single and self.called

    def feed(self, text: str) -> Iterator[Chunk]:
        return self._read(text, lambda: self._parser.feed(text))

    def finish(self) -> Iterator[Chunk]:
        return self._read("", lambda: self._parser.finalize()[1])

    def _read(self, text: str, parse: Callable[[], list[dict[str, Any]]]) -> Iterator[Chunk]:
        if self._broken or self.ended:
            events = [] if self.ended else [{"type": "region_chunk", "field": "", "text": text}]
        else:
            try:
                events = parse()
            except (ValueError, RecursionError):
                # The model broke its own format: from here on, what it writes is text.
                self._broken = True
                events = [{"type": "region_chunk", "field": "", "text": self._region + text}]
        for event in events:
            yield from self._chunks(event)

    def _chunks(self, event: dict[str, Any]) -> Iterator[Chunk]:
        if event["type"] == "region_open":
            self._region = ""
        elif event["type"] == "region_chunk":
            if event.get("dirty"):
                self._region += event["text"]
            elif event["text"]:
                field = "reasoning" if event["field"] in _REASONING else "text"
                yield Chunk(**{field: event["text"]})
        elif event["field"] == "tool_calls":
            if calls := read_calls(event["value"], self._tools):
                yield Chunk(
                    tool_calls=tuple(_delta(self._count + i, c) for i, c in enumerate(calls))
                )
                self._count += len(calls)
            elif self._region:
                yield Chunk(text=self._region)


# What response templates call the part that the user is not meant to read as the answer.
_REASONING = frozenset({"thinking", "reasoning", "reasoning_content"})


def read_calls(value: Any, tools: Mapping[str, Any]) -> list[Call]:
    """The calls that a JSON value is, or none if it is anything else, even in part.

    Args:
        value: parsed JSON.
        tools: functions as OpenAI describes them, by name.
    """
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    items = value if isinstance(value, list) else [value]
    calls = [call for item in items if (call := _call(item, tools)) is not None]
    return calls if len(calls) == len(items) else []


def _call(item: Any, tools: Mapping[str, Any]) -> Call | None:
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("function"), dict):
        item = item["function"]
    name = item.get("name", item.get("function"))
    if not isinstance(name, str) or name not in tools:
        return None
    arguments = _arguments(item, tools[name])
    return None if arguments is None else Call(name, arguments)


def _arguments(value: dict[str, Any], function: Mapping[str, Any]) -> str | None:
    arguments = value.get("arguments", value.get("parameters"))
    if arguments is None and not (function.get("parameters") or {}).get("required"):
        arguments = {}
    if isinstance(arguments, str):
        try:
            arguments = _DECODER.decode(arguments)
        except (ValueError, RecursionError):
            return None
    if not isinstance(arguments, dict):
        return None
    text = json.dumps(arguments, ensure_ascii=False)
    # Half a surrogate pair can be escaped in JSON, but not sent as UTF-8.
    return json.dumps(arguments) if re.search("[\ud800-\udfff]", text) else text


def _delta(index: int, call: Call) -> ToolCallDelta:
    return ToolCallDelta(index, f"call_{uuid.uuid4().hex}", call.name, call.arguments)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _may_become_json(text: str) -> bool:
    """Whether `text` is the beginning of some JSON value."""
    try:
        from_json(text, allow_inf_nan=False, allow_partial=True)
    except ValueError:
        return False
    return True
