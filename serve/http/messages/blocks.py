"""From an answer's chunks to content blocks, of which one ends before the next one begins."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from deployments.contract import Chunk, ToolCallDelta
from deployments.extras import THINKING_BLOCKS

Event = dict[str, Any]
Block = dict[str, Any]


@dataclass(slots=True)
class _Call:
    """A tool call that is being written."""

    id: str
    name: str
    arguments: str = ""
    sent: int = 0
    begun: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether its arguments are an object, which nothing can follow."""
        # Only what may be one is parsed, since this is asked again with each piece.
        return self.arguments.rstrip().endswith("}") and isinstance(_parsed(self.arguments), dict)


class Blocks:
    """The blocks of one answer, as the events that Anthropic's clients read them from.

    Models may write several tool calls at once, or text before the last call is complete. What
    comes early waits.
    """

    def __init__(self) -> None:
        self._count = 0
        self._open = ""  # the type of the block that is being sent
        self._thought = ""  # what was sent of it, if it is a thinking block
        self._calls: dict[int, _Call] = {}  # those that have not ended
        self._held: list[Chunk] = []

    def add(self, chunk: Chunk) -> Iterator[Event]:
        """The events for what has come."""
        signed = [value for key, value in chunk.extra if key == THINKING_BLOCKS]
        if chunk.text or chunk.reasoning or signed:
            if self._calls:
                self._held.append(chunk)
                yield from self._advance()
            else:
                yield from self._say(chunk, signed)
        for delta in chunk.tool_calls:
            yield from self._call(delta)

    def end(self) -> Iterator[Event]:
        """The events for what is left."""
        yield from self._advance(ended=True)
        yield from self._close()

    # --- text and reasoning ---

    def _say(self, chunk: Chunk, signed: Sequence[Block]) -> Iterator[Event]:
        yield from self._think(chunk.reasoning, signed)
        if chunk.text:
            if self._open != "text":
                yield from self._begin({"type": "text", "text": ""})
            yield self._delta(type="text_delta", text=chunk.text)

    def _think(self, reasoning: str, signed: Sequence[Block]) -> Iterator[Event]:
        """Reasoning, and the blocks that are complete with it. A signature that doesn't belong to
        what was sent, since another model has taken over, is worth nothing."""
        pending = self._thought + reasoning
        for block in signed:
            if block["type"] == "redacted_thinking":
                pending = pending.removeprefix(self._thought)
                yield from self._begin(block)
                yield from self._close()
            elif pending.startswith(text := block["thinking"]):
                yield from self._thinks(text)
                yield self._delta(type="signature_delta", signature=block["signature"])
                yield from self._close()
                pending = pending.removeprefix(text)
        if pending != self._thought:
            yield from self._thinks(pending)

    def _thinks(self, text: str) -> Iterator[Event]:
        """Sends the open thinking block up to `text`."""
        if self._open != "thinking":
            yield from self._begin({"type": "thinking", "thinking": "", "signature": ""})
        if more := text.removeprefix(self._thought):
            yield self._delta(type="thinking_delta", thinking=more)
        self._thought = text

    # --- tool calls ---

    def _call(self, delta: ToolCallDelta) -> Iterator[Event]:
        call = self._calls.get(delta.index)
        if call is None:
            if not delta.name:
                return  # white space after a call that has ended
            call = self._calls[delta.index] = _Call(delta.id, delta.name)
        call.arguments += delta.arguments
        yield from self._advance()

    def _advance(self, *, ended: bool = False) -> Iterator[Event]:
        """Sends the first call as far as it has come. Ends it if it is complete and something waits
        for that, and goes on with what waited."""
        while self._calls:
            index, call = next(iter(self._calls.items()))
            yield from self._write(call)
            waiting = len(self._calls) > 1 or self._held
            if not (ended or (waiting and call.is_complete)):
                return
            yield from self._close()
            del self._calls[index]
        held, self._held = self._held, []
        for chunk in held:
            yield from self._say(chunk, [v for key, v in chunk.extra if key == THINKING_BLOCKS])

    def _write(self, call: _Call) -> Iterator[Event]:
        if not call.begun:
            call.begun = True
            yield from self._begin(
                {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
            )
        if more := call.arguments[call.sent :]:
            call.sent = len(call.arguments)
            yield self._delta(type="input_json_delta", partial_json=more)

    # --- events ---

    def _begin(self, block: Block) -> Iterator[Event]:
        yield from self._close()
        self._open = block["type"]
        yield {"type": "content_block_start", "index": self._count, "content_block": block}

    def _delta(self, **delta: Any) -> Event:
        return {"type": "content_block_delta", "index": self._count, "delta": delta}

    def _close(self) -> Iterator[Event]:
        if self._open:
            yield {"type": "content_block_stop", "index": self._count}
            self._open, self._thought = "", ""
            self._count += 1


# Where each delta of a block goes.
_INTO = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


def content(events: Iterable[Event], *, cut: bool) -> list[Block]:
    """The blocks of a whole answer.

    Args:
        events: of all of them.
        cut: whether the answer ran out of tokens: the arguments of a call may then lack their end.
    """
    blocks: list[Block] = []
    for event in events:
        match event["type"]:
            case "content_block_start":
                blocks.append(dict(event["content_block"]))
            case "content_block_delta":
                delta = event["delta"]
                field = _INTO[delta["type"]]
                blocks[-1][field] = blocks[-1].get(field, "") + delta[field]
    for block in blocks:
        if block["type"] == "tool_use":
            block["input"] = _input(block.pop("partial_json", ""), cut=cut)
    return blocks


def _input(arguments: str, *, cut: bool) -> dict[str, Any]:
    """A call's arguments as the object that they must be here.

    What isn't one is wrapped as Anthropic's documentation advises for fine-grained streaming:
    https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/fine-grained-tool-streaming
    """
    parsed = _parsed(arguments or "{}", partly=cut)
    return parsed if isinstance(parsed, dict) else {"INVALID_JSON": arguments}


def _parsed(text: str, *, partly: bool = False) -> Any:
    """JSON, or the part of it that is there; None if it is none."""
    try:
        return from_json(text, allow_partial=partly)
    except ValueError:
        return None
