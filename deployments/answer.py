"""An answer: chunks that add up to the whole of it, and the tokens that it took."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer.

    Attributes:
        prompt_tokens: all of the prompt's, cached or not.
        completion_tokens: all of the answer's, including reasoning.
        cached_tokens: of the prompt, read from the provider's cache.
        reasoning_tokens: of the answer.
        cache_written_tokens: of the prompt, written to the provider's cache.
        cache_written_1h_tokens: of those, cached for an hour.
        service_tier: by which the provider served the request, if it says so.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_written_tokens: int = 0
    cache_written_1h_tokens: int = 0
    service_tier: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return Usage, (
            self.prompt_tokens,
            self.completion_tokens,
            self.cached_tokens,
            self.reasoning_tokens,
            self.cache_written_tokens,
            self.cache_written_1h_tokens,
            self.service_tier,
        )


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call. The first has `id` and `name`; all `arguments` joined are JSON."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer. A stream's last chunks hold its finish reason and its usage, once each.

    Attributes:
        logprobs: OpenAI's `choices[0].logprobs.content` entries for this piece.
        extra: what the provider sent and this contract has no field for, such as the signature of
            a thinking block, or its raw bytes. Each item is a key, which a backend and the front
            ends that understand it agree on, and a value that can be pickled. Other front ends
            ignore it. Merging chunks keeps all items, in order, with repeated keys.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[dict[str, Any], ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    extra: tuple[tuple[str, Any], ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # Each message between processes is one chunk, and most hold text alone.
        rest = (self.reasoning, self.tool_calls, self.logprobs, self.finish_reason)
        last = (self.usage, self.extra)
        return Chunk, (self.text, *rest, *last) if any(rest) or any(last) else (self.text,)


def merge(chunks: Iterable[Chunk]) -> Chunk:
    """Joins chunks in order; those of a whole stream make the whole answer."""
    chunks = list(chunks)
    if len(chunks) == 1 and len(chunks[0].tool_calls) < 2:  # of which two may be of one call
        return chunks[0]
    calls: dict[int, ToolCallDelta] = {}
    logprobs: list[dict[str, Any]] = []
    extra: list[tuple[str, Any]] = []
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    for chunk in chunks:
        # Most chunks of an answer have nothing but text.
        for delta in chunk.tool_calls:
            known = calls.get(delta.index)
            calls[delta.index] = delta if known is None else _join(known, delta)
        logprobs += chunk.logprobs
        extra += chunk.extra
        finish_reason = chunk.finish_reason or finish_reason
        usage = chunk.usage or usage
    return Chunk(
        text="".join([chunk.text for chunk in chunks]),
        reasoning="".join([chunk.reasoning for chunk in chunks]),
        tool_calls=tuple(calls[index] for index in sorted(calls)),
        logprobs=tuple(logprobs),
        finish_reason=finish_reason,
        usage=usage,
        extra=tuple(extra),
    )


def _join(first: ToolCallDelta, more: ToolCallDelta) -> ToolCallDelta:
    return ToolCallDelta(
        index=first.index,
        id=first.id or more.id,
        name=first.name or more.name,
        arguments=first.arguments + more.arguments,
    )
