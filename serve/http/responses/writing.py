"""The items of a streamed response as they are written: the events of each, from the first on.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from deployments.contract import Chunk, ToolCallDelta
from serve.http.responses.reasoning import blocks_of
from serve.http.responses.replies import (
    call_item,
    logprob,
    message_item,
    new_id,
    reasoning_item,
    text_part,
)

Json = dict[str, Any]
Event = tuple[str, Json]
"""An event's type, without "response.", and its fields."""


class Writing(ABC):
    """An item that is being written.

    Args:
        index: its place in the output.
    """

    kind: str

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = new_id(self.kind)
        self.where: Json = {"item_id": self.id, "output_index": index}

    @abstractmethod
    def begin(self) -> Iterator[Event]:
        """The events before its first piece."""

    @abstractmethod
    def end(self) -> Iterator[Event]:
        """The events after its last piece, before the item is done."""

    @abstractmethod
    def item(self) -> Json:
        """The item, as far as it is written."""


class Thought(Writing):
    """Reasoning."""

    kind = "rs"

    def __init__(self, index: int, *, seals: bool) -> None:
        super().__init__(index)
        self.where["summary_index"] = 0
        self._seals = seals
        self._pieces: list[str] = []
        self._blocks: list[Json] = []

    def begin(self) -> Iterator[Event]:
        """The item and its only part."""
        added = {**reasoning_item(self.id, ""), "status": "in_progress"}
        yield "output_item.added", {"output_index": self.index, "item": added}
        yield "reasoning_summary_part.added", {**self.where, "part": self._part("")}

    def add(self, chunk: Chunk) -> Iterator[Event]:
        """A chunk's reasoning."""
        self._pieces.append(chunk.reasoning)
        self._blocks += blocks_of(chunk)
        if chunk.reasoning:
            yield "reasoning_summary_text.delta", {**self.where, "delta": chunk.reasoning}

    def end(self) -> Iterator[Event]:
        """The whole part."""
        text = "".join(self._pieces)
        yield "reasoning_summary_text.done", {**self.where, "text": text}
        yield "reasoning_summary_part.done", {**self.where, "part": self._part(text)}

    def item(self) -> Json:
        """The item of reasoning."""
        return reasoning_item(self.id, "".join(self._pieces), self._blocks, seals=self._seals)

    @staticmethod
    def _part(text: str) -> Json:
        return {"type": "summary_text", "text": text}


class Speech(Writing):
    """Text."""

    kind = "msg"

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.where["content_index"] = 0
        self._pieces: list[str] = []
        self._logprobs: list[Json] = []

    def begin(self) -> Iterator[Event]:
        """The message and its only part."""
        added = {**message_item(self.id, ""), "status": "in_progress", "content": []}
        yield "output_item.added", {"output_index": self.index, "item": added}
        yield "content_part.added", {**self.where, "part": text_part("")}

    def add(self, chunk: Chunk) -> Iterator[Event]:
        """A chunk's text."""
        self._pieces.append(chunk.text)
        self._logprobs += chunk.logprobs
        logprobs = [logprob(entry) for entry in chunk.logprobs]
        yield "output_text.delta", {**self.where, "delta": chunk.text, "logprobs": logprobs}

    def end(self) -> Iterator[Event]:
        """The whole part."""
        part = text_part("".join(self._pieces), self._logprobs)
        said = {"text": part["text"], "logprobs": part["logprobs"]}
        yield "output_text.done", {**self.where, **said}
        yield "content_part.done", {**self.where, "part": part}

    def item(self) -> Json:
        """The message."""
        return message_item(self.id, "".join(self._pieces), self._logprobs)


class Calling(Writing):
    """A call of a function."""

    kind = "fc"

    def __init__(self, index: int, first: ToolCallDelta) -> None:
        super().__init__(index)
        self._first = first
        self._pieces: list[str] = []

    def begin(self) -> Iterator[Event]:
        """The item without arguments."""
        named = ToolCallDelta(self._first.index, self._first.id, self._first.name)
        added = call_item(self.id, named, "in_progress")
        yield "output_item.added", {"output_index": self.index, "item": added}

    def add(self, piece: ToolCallDelta) -> Iterator[Event]:
        """A piece of its arguments."""
        if piece.arguments:
            self._pieces.append(piece.arguments)
            yield "function_call_arguments.delta", {**self.where, "delta": piece.arguments}

    def end(self) -> Iterator[Event]:
        """All of its arguments."""
        said = {"name": self._first.name, "arguments": "".join(self._pieces)}
        yield "function_call_arguments.done", {**self.where, **said}

    def item(self) -> Json:
        """The call."""
        first = self._first
        call = ToolCallDelta(first.index, first.id, first.name, "".join(self._pieces))
        return call_item(self.id, call)

    @property
    def is_complete(self) -> bool:
        """Whether its arguments are JSON, to which nothing can be added."""
        try:
            json.loads("".join(self._pieces))
        except (ValueError, RecursionError):
            return False
        return True
