"""Resuming an answer that broke off after part of it was sent."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from deployments.contract import ChatRequest, Chunk, Usage

# Separates part of one answer from the whole of another, and one model's reasoning from the next's.
_SEPARATOR = "\n\n"
# UTF-8 bytes per token, roughly: a model that broke off doesn't report its usage.
_TOKEN_BYTES = 4

Mode = Literal["continued", "restarted"]


@dataclass(slots=True)
class Rescue:
    """A model that broke off, and how the answer was resumed.

    Attributes:
        model: the model that broke off.
        error: the code of its error.
        characters: of text that had been sent by then, by all models together.
        reasoning_characters: of reasoning that had been sent, likewise.
        mode: whether another answer continued it or restarted from the beginning.
        text_tokens: of that text, estimated.
        reasoning_tokens: of that reasoning, estimated.
        repeated: whether a restarted answer began with all of that text, which was then not sent
            again.
    """

    model: str
    error: str
    characters: int
    reasoning_characters: int
    mode: Mode
    text_tokens: int
    reasoning_tokens: int
    repeated: bool = False


class Sent:
    """What the caller has been sent of an answer so far."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._thoughts: list[str] = []
        self._has_calls = False
        self._ended = False

    def add(self, chunk: Chunk) -> None:
        """Adds a chunk that is sent to the caller."""
        if chunk.text:
            self._pieces.append(chunk.text)
        if chunk.reasoning:
            self._thoughts.append(chunk.reasoning)
        self._has_calls = self._has_calls or bool(chunk.tool_calls)
        self._ended = self._ended or chunk.finish_reason is not None

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return "".join(self._pieces)

    @property
    def reasoning(self) -> str:
        """The answer's reasoning so far."""
        return "".join(self._thoughts)

    def can_be_resumed(self, request: ChatRequest) -> bool:
        """Whether another model may take over: never in the middle of tool calls or JSON, which two
        models can't write together, nor after the end."""
        in_json = bool(self._pieces) and request.wants_json
        return not (self._has_calls or self._ended or in_json)

    def rescue(self, model: str, error: str, mode: Mode) -> Rescue:
        """The report of a rescue at this point."""
        return Rescue(
            model,
            error,
            len(self.text),
            len(self.reasoning),
            mode,
            _tokens(self.text),
            _tokens(self.reasoning),
        )


def continuing(request: ChatRequest, sent: Sent) -> ChatRequest:
    """`request`, with what was sent as the beginning of its answer."""
    messages, begun = list(request.messages), sent.text
    if request.continue_final_message:
        begun = f"{messages.pop()['content']}{begun}"
    beginning = {"role": "assistant", "content": begun}
    return request.model_copy(
        update={"messages": [*messages, beginning], "continue_final_message": True}
    )


async def restarted(
    chunks: AsyncGenerator[Chunk, None], before: str, rescue: Rescue
) -> AsyncGenerator[Chunk, None]:
    """A whole answer, sent after part of another one, `before`.

    If it begins with all of that part, only its rest is sent, and `rescue.repeated` is set; if not,
    all of it is sent, after a blank line. Where it calls tools and its text is no more than the
    beginning of that part, only the calls are sent.
    """
    text, calls, joined = "", False, False
    async with aclosing(chunks):
        async for chunk in chunks:
            if joined:
                yield chunk
                continue
            text += chunk.text
            calls = calls or bool(chunk.tool_calls)
            repeats = before.startswith(text)
            joined = not repeats or text == before or bool(chunk.finish_reason)
            rescue.repeated = joined and bool(before) and text.startswith(before)
            is_said = joined and text and not (calls and repeats)
            yield replace(chunk, text=_after(before, text) if is_said else "")


def _after(before: str, text: str) -> str:
    return text.removeprefix(before) if text.startswith(before) else _SEPARATOR + text


async def separate_reasoning(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """An answer whose reasoning follows another model's: a blank line separates the two."""
    separated = False
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk.reasoning and not separated:
                separated, chunk = True, replace(chunk, reasoning=_SEPARATOR + chunk.reasoning)
            yield chunk


def total_usage(usage: Usage | None, rescues: Sequence[Rescue]) -> Usage | None:
    """An answer's tokens as if one model had written all of it: the caller's prompt once, and all
    that was sent.

    Args:
        usage: what the last model reported. If it continued the answer, its prompt contains the
            text that had been sent before.
        rescues: the answer's.
    """
    if usage is None or not rescues:
        return usage
    before, prompt_tokens = rescues[-1], usage.prompt_tokens
    text_tokens = 0 if before.repeated else before.text_tokens
    if before.mode == "continued":
        # That text is part of the reported prompt: what moves to the completion leaves the prompt.
        text_tokens = min(text_tokens, max(prompt_tokens - 1, 0))
        prompt_tokens -= text_tokens
    return replace(
        usage,
        prompt_tokens=prompt_tokens,
        completion_tokens=usage.completion_tokens + text_tokens + before.reasoning_tokens,
        cached_tokens=min(usage.cached_tokens, prompt_tokens),
        cache_written_tokens=min(usage.cache_written_tokens, prompt_tokens),
        reasoning_tokens=usage.reasoning_tokens + before.reasoning_tokens,
    )


def _tokens(text: str) -> int:
    return ceil(len(text.encode(errors="replace")) / _TOKEN_BYTES)
