"""What a simulated model writes: filler words, and JSON if that is asked for.

A token is four bytes.
"""

import json
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil
from typing import Any

from deployments.answer import FinishReason
from deployments.backends.simulated.instances import instance_of
from deployments.contract import ChatRequest, Chunk, ToolCallDelta
from deployments.errors import InvalidRequest
from deployments.estimates import TOKEN_BYTES

# With a space between them, each is one token.
_WORDS = ("one", "sun", "set", "and", "the", "sea", "was", "red", "for", "all", "day", "yet", "two")


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        written: all that the model writes.
        begins: where the part begins that is sent.
        ends: where it ends.
        finish_reason: why there is no more.
        calls: the tool whose arguments that part is; None if it is text.
    """

    written: str
    begins: int
    ends: int
    finish_reason: FinishReason
    calls: str | None = None

    @property
    def tokens(self) -> int:
        """Its length. It has at least one: the end."""
        return max(1, ceil(len(self.written) / TOKEN_BYTES))

    def chunk(self, begin: int, end: int) -> Chunk:
        """The tokens from `begin` to before `end`."""
        piece = self.written[
            max(TOKEN_BYTES * begin, self.begins) : min(TOKEN_BYTES * end, self.ends)
        ]
        if self.calls is None:
            return Chunk(text=piece)
        identity = ("call_0", self.calls) if begin == 0 else ("", "")
        return Chunk(tool_calls=(ToolCallDelta(0, *identity, arguments=piece),))


def answer_to(request: ChatRequest, *, usual: int, room: int) -> Answer:
    """The answer to a request, always the same.

    Args:
        request: a text for it is as long as its `max_tokens` allows.
        usual: tokens of a text for which it says nothing.
        room: the most tokens that there is room for.

    Raises:
        InvalidRequest: no simple value keeps to a schema of the request.
    """
    most = min(request.output_limit or room, room)
    length = min(usual, most) if request.output_limit is None else most
    if (tool := _called(request)) is not None:
        return _limited(*_call(request, tool), most, calls=tool)
    if request.wants_json:
        return _limited(*_after_the_beginning(request, _json(request, length)), most)
    text, begins, ends = _after_the_beginning(request, _words(length))
    found = [(at + len(stop), at) for stop in request.stops if (at := text.find(stop)) >= 0]
    if found:
        stopped, at = min(found)  # the one that is complete first
        return Answer(text[:stopped], begins, at, "stop")
    cut = request.output_limit is not None or length < usual
    return Answer(text, begins, ends, "length" if cut else "stop")


def _words(tokens: int) -> str:
    return " ".join(islice(cycle(_WORDS), tokens))


def _after_the_beginning(request: ChatRequest, text: str) -> tuple[str, int, int]:
    """The rest of a text that the request's last message begins."""
    if request.continue_final_message:
        text = text[len(str(request.messages[-1].get("content"))) :]
    return text, 0, len(text)


def _limited(written: str, begins: int, ends: int, most: int, calls: str | None = None) -> Answer:
    """An answer that ends by itself, unless it has more than `most` tokens."""
    if len(written) > TOKEN_BYTES * most:
        cut = TOKEN_BYTES * most
        return Answer(written[:cut], begins, min(ends, cut), "length", calls)
    return Answer(written, begins, ends, "stop" if calls is None else "tool_calls", calls)


def _called(request: ChatRequest) -> str | None:
    """The tool that must be called, if one must; no other is."""
    if request.tool_choice == "required":
        return (request.tools or [])[0]["function"]["name"]
    return request.named_tool


def _call(request: ChatRequest, name: str) -> tuple[str, int, int]:
    """A call as many models write it, and where its arguments are."""
    (tool,) = (tool for tool in request.tools or () if tool["function"]["name"] == name)
    schema: Any = {"type": "object", **(tool["function"].get("parameters") or {})}
    if schema["type"] != "object":
        raise InvalidRequest(
            f"tools: '{name}': its parameters must have the type object", param="tools"
        )
    arguments = instance_of(schema, f"tools: '{name}'", "tools")
    before = f'<tool_call>{{"name": {json.dumps(name)}, "arguments": '
    return f"{before}{arguments}}}</tool_call>", len(before), len(before) + len(arguments)


def _json(request: ChatRequest, length: int) -> str:
    form: Any = request.response_format
    if form["type"] == "json_schema":
        return instance_of(form["json_schema"].get("schema", {}), "response_format")
    frame = ceil(len('{"text": ""}') / TOKEN_BYTES)
    return json.dumps({"text": _words(max(1, length - frame))})
