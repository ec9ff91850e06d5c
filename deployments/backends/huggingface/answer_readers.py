"""Parses a model's output, as it streams, into text, reasoning and tool calls."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from pydantic_core import from_json

from deployments.answer import Chunk, ToolCallDelta
from deployments.backends.huggingface.tool_calls import DECODER, Call, delta, read_calls
from deployments.messages import Tool


class AnswerReader(Protocol):
    """An incremental parser: pieces of the output in, chunks of the answer out.

    The answer does not depend on how the output was divided into pieces.
    """

    @property
    def called(self) -> bool:
        """Whether a tool has been called so far."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the answer is complete, so that generation can stop."""
        ...

    def feed(self, text: str) -> Iterator[Chunk]:
        """The chunks that are certain after `text`; the rest is held back."""
        ...

    def finish(self) -> Iterator[Chunk]:
        """The chunks that were held back, at the end of the output."""
        ...


class TextReader:
    """An answer without tools: all text."""

    called = False
    ended = False

    def feed(self, text: str) -> Iterator[Chunk]:
        if text:
            yield Chunk(text=text)

    def finish(self) -> Iterator[Chunk]:
        return iter(())


class ArgumentsReader:
    """An answer that consists of the arguments of a tool named by the request."""

    called = True
    ended = False

    def __init__(self, name: str) -> None:
        self._first: ToolCallDelta | None = delta(0, Call(name, ""))

    def feed(self, text: str) -> Iterator[Chunk]:
        if self._first:
            yield Chunk(tool_calls=(self._first,))
            self._first = None
        if text:
            yield Chunk(tool_calls=(ToolCallDelta(index=0, arguments=text),))

    def finish(self) -> Iterator[Chunk]:
        return self.feed("")


class _CallsReader:
    """What readers of tool calls share: the tools, and how many have been called."""

    def __init__(self, tools: Sequence[Tool], *, single: bool) -> None:
        self._tools = {tool["function"]["name"]: tool["function"] for tool in tools}
        self._single = single
        self._count = 0

    @property
    def called(self) -> bool:
        return self._count > 0

    @property
    def ended(self) -> bool:
        return self._single and self.called

    def _calls(self, calls: Sequence[Call]) -> Chunk:
        deltas = tuple(delta(self._count + i, call) for i, call in enumerate(calls))
        self._count += len(calls)
        return Chunk(tool_calls=deltas)


_OPEN_TAG, _CLOSE_TAG, _FENCE = "<tool_call>", "</tool_call>", "```"


def _prefixes(mark: str) -> str:
    """A pattern that matches any prefix of `mark`, preferring the longest."""
    return "|".join(re.escape(mark[:length]) for length in range(len(mark), 0, -1))


# Where a call may start: a JSON value, bare, in tags, or in a fenced block of any language.
_START = re.compile(rf"(?:(?P<mark>{_OPEN_TAG}|{_FENCE})\w*\s*)?(?P<json>[\[{{])")
# The end of the output so far, if it may turn out to be part of such a start.
_PARTIAL_START = re.compile(rf"\s*(?:(?:{_prefixes(_OPEN_TAG)})\s*|{_FENCE}\w*\s*|`{{1,2}})?\Z")
# After a call: its closing mark, commas and white space, none of which is text.
_AFTER = {
    mark: (
        re.compile(rf"[\s,;]*(?:{re.escape(close)}[\s,;]*)?"),
        re.compile(rf"[\s,;]*(?:(?:{_prefixes(close)})[\s,;]*)?\Z"),
    )
    for mark, close in ((_OPEN_TAG, _CLOSE_TAG), (_FENCE, _FENCE))
}
_AFTER[""] = (re.compile(r"[\s,;]*"), re.compile(r"[\s,;]*\Z"))


class CallReader(_CallsReader):
    """An answer that may contain calls in the formats models use, alone or within text.

    A call is a JSON object, or a list of them, bare, in a fenced block or in `<tool_call>` tags:
    {"name", "arguments"}, {"name", "parameters"}, {"function": {…}}, {"tool_calls": […]}. Anything
    else stays text, including other JSON, calls of unknown tools and truncated JSON.

    Args:
        tools: those that may be called.
        single: stop after one call.
    """

    def __init__(self, tools: Sequence[Tool], *, single: bool = False) -> None:
        super().__init__(tools, single=single)
        self._held = ""
        self._after: str | None = None  # the opening mark of the last call, until its end is read

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
                partial = None if last else _PARTIAL_START.search(self._held)
                yield from self._text(partial.start() if partial else len(self._held))
                return
            json_text = self._held[start.start("json") :]
            # White space before a call is not text, so hold it back with the call.
            before = len(self._held[: start.start()].rstrip())
            try:
                value, length = DECODER.raw_decode(json_text)
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
        """Releases the first `length` characters held back."""
        text, self._held = self._held[:length], self._held[length:]
        if text:
            yield Chunk(text=text)


class TemplateReader(_CallsReader):
    """An answer parsed by the model's own response template: text, reasoning and calls.

    Args:
        parser: transformers' `ResponseParser`, already given the prompt.
        tools: those that may be called; a call of any other stays text.
        single: stop after one call.
    """

    def __init__(self, parser: Any, tools: Sequence[Tool], *, single: bool = False) -> None:
        super().__init__(tools, single=single)
        self._parser = parser
        self._region = ""  # the text of an open region that is parsed as a whole when it closes
        self._broken = False

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
                # The model violated its own format: treat the rest as text.
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
                yield self._calls(calls)
            elif self._region:
                yield Chunk(text=self._region)


# Names that response templates use for reasoning.
_REASONING = frozenset({"thinking", "reasoning", "reasoning_content"})


def _may_become_json(text: str) -> bool:
    """Whether `text` is a prefix of some JSON value."""
    try:
        from_json(text, allow_inf_nan=False, allow_partial=True)
    except ValueError:
        return False
    return True
