"""Turns a stream of OpenAI's chunks, as JSON or as a library's objects, into ours."""

import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from deployments.answer import FinishReason
from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest, Chunk, ToolCallDelta, Usage
from deployments.errors import ProviderError
from deployments.extras import STOP_SEQUENCE, THINKING_BLOCKS
from deployments.limits import Limit

# Seconds to wait for the end of a stream once the answer is complete.
_END_S = 1.0

_SURROGATE = re.compile("[\ud800-\udfff]")
# The fields of reasoning, as text and in parts. vLLM calls the text `reasoning`, LiteLLM and most
# others `reasoning_content`.
_REASONING = ("reasoning_content", "reasoning")
_PARTS = ("thinking_blocks", "reasoning_details")
_THOUGHTS = frozenset({*_REASONING, *_PARTS})

# More than any model takes; what a provider makes up must not overflow a sum.
_MOST_TOKENS = 2**40

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


async def read(
    events: AsyncIterable[Any],
    request: ChatRequest,
    names: ToolNames,
    *,
    silence: float,
    thinking: float = 0.0,
    context_window: int | None,
) -> AsyncGenerator[Chunk, None]:
    """Yields an answer's chunks, the finish reason and the usage with the last one.

    Args:
        events: chunks in OpenAI's format: dictionaries, or objects with the same attributes.
        request: the request that is answered.
        names: the tool names that were sent.
        silence: seconds between two events after which a TimeoutError is raised. Comments that
            only keep the connection open are not events.
        thinking: seconds of silence allowed, if they are more, until the first text or tool call.
        context_window: tokens that prompt and answer have together, if known.

    Raises:
        ProviderError: the stream is malformed, or ends without a finish reason or usage.
    """
    answer = _Answer(request, names, context_window)
    patience = max(silence, thinking)
    iterator = aiter(events)
    while True:
        try:
            with Limit(time.monotonic() + (_END_S if answer.is_complete else patience)):
                event = await anext(iterator)
        except StopAsyncIteration:
            break
        except TimeoutError:
            if answer.is_complete:
                break  # without a `[DONE]`, on a connection that stays open
            raise
        chunk = answer.add(event)
        if chunk is not None:
            if chunk.text or chunk.tool_calls:
                patience = silence
            yield chunk
    yield answer.end()


class _Answer:
    """The state of an answer while it streams."""

    def __init__(self, request: ChatRequest, names: ToolNames, context_window: int | None) -> None:
        self._request = request
        self._names = names
        self._context_window = context_window
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._tier: str | None = None
        self._stop: str | None = None  # the string that ended the answer, if the server says so
        self._thought = ""  # of the thinking block that is not complete
        self._text = _Pieces()
        self._reasoning = _Pieces()
        self._calls: list[_Pieces] = []  # the arguments of each call, as they come
        self._arguments: list[str] = []  # of each call, so far
        self._ids: dict[int, str] = {}  # the provider's, by its index
        self._indices: dict[int, int] = {}  # ours, by the provider's

    def add(self, event: Any) -> Chunk | None:
        """One event's part of the answer; `end` gives its finish reason and usage. The chunk is
        empty while a model hides its reasoning, and None if the event has no part of the answer."""
        try:
            if (usage := _optional(event, "usage")) is not None:
                self._usage = _usage(usage)
            self._tier = _tier(event) or self._tier
            choices = event["choices"] if isinstance(event, dict) else event.choices
            if not choices:
                return None
            choice = choices[0]
            self._finish_reason = _text(_field(choice, "finish_reason")) or self._finish_reason
            self._stop = _stop(choice) or self._stop
            return self._chunk(_delta(choice), _optional(choice, "logprobs"))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # Nothing has validated what a server sends.
            raise ProviderError(
                f"model '{self._request.model}' failed: its provider sent a malformed chunk"
            ) from error

    @property
    def is_complete(self) -> bool:
        """Whether both the finish reason and the usage have come."""
        return self._finish_reason is not None and self._usage is not None

    def end(self) -> Chunk:
        """The finish reason and the usage."""
        if self._finish_reason is None:
            raise ProviderError(
                f"model '{self._request.model}' broke off its answer: no finish reason came"
            )
        if self._finish_reason not in _FINISH_REASONS:
            raise ProviderError(
                f"model '{self._request.model}' failed: its provider gave an unknown finish "
                f"reason, '{self._finish_reason}'"
            )
        if self._usage is None:
            # Counting them here would bill by a guess.
            raise ProviderError(
                f"model '{self._request.model}' failed: its provider did not report the tokens used"
            )
        said = _FINISH_REASONS[self._finish_reason]
        stopped = self._stop in self._request.stops
        rests = [pieces.end() for pieces in self._calls]
        return Chunk(
            text=self._text.end(),
            reasoning=self._reasoning.end(),
            tool_calls=tuple(
                ToolCallDelta(index=i, arguments=rest) for i, rest in enumerate(rests) if rest
            ),
            finish_reason=self._true_reason(said, self._usage),
            usage=replace(self._usage, service_tier=self._tier),
            extra=((STOP_SEQUENCE, self._stop),) if stopped else (),
        )

    def _chunk(self, delta: Any, logprobs: Any) -> Chunk | None:
        # OpenAI has a field of its own for the words by which a model refuses to answer in JSON.
        said = _text(_field(delta, "content")) or _text(_optional(delta, "refusal"))
        text = self._text.add(said)
        reasoning, is_thinking = "", False
        signed: tuple[tuple[str, Any], ...] = ()
        if not isinstance(delta, dict) or not _THOUGHTS.isdisjoint(delta):
            reasoning = self._reasoning.add(_reasoning(delta))
            is_thinking = bool(thoughts := _thoughts(delta))
            signed = self._signed(reasoning, thoughts)
        calls = _field(delta, "tool_calls")
        entries = _entries(logprobs) if logprobs is not None else ()
        if not (text or reasoning or is_thinking or calls or entries):
            return None
        return Chunk(
            text=text,
            reasoning=reasoning,
            tool_calls=tuple([self._call(call) for call in calls or ()]),
            logprobs=entries,
            extra=signed,
        )

    def _signed(
        self, reasoning: str, thoughts: list[dict[str, Any]]
    ) -> tuple[tuple[str, dict[str, str]], ...]:
        """The thinking blocks that are complete, since their signature has come or they are
        encrypted. Anthropic's models want them back as they were."""
        self._thought += reasoning
        blocks: list[dict[str, str]] = []
        for thought in thoughts:
            kind, signature = thought.get("type"), _text(thought.get("signature"))
            if kind == "redacted_thinking":
                blocks.append({"type": kind, "data": _text(thought.get("data"))})
            elif kind == "thinking" and signature:
                block = {"type": kind, "thinking": self._thought, "signature": signature}
                blocks.append(block)
                self._thought = ""
        return tuple([(THINKING_BLOCKS, block) for block in blocks])

    def _call(self, delta: Any) -> ToolCallDelta:
        function = _field(delta, "function")
        name = _whole(_text(_field(function, "name")))
        arguments = _text(_field(function, "arguments"))
        # Where a provider sends each call in a chunk of its own, LiteLLM gives all of them index 0.
        # So a new id begins a call, or a name where there is no id.
        theirs, id = _field(delta, "index"), _whole(_text(_field(delta, "id")))
        starts = self._ids.get(theirs) != id if id else bool(name)
        if theirs not in self._indices or starts:
            self._indices[theirs] = len(self._arguments)
            self._ids[theirs] = id or f"call_{uuid4().hex}"
            self._calls.append(_Pieces())
            self._arguments.append(arguments := self._calls[-1].add(arguments))
            return ToolCallDelta(
                index=self._indices[theirs],
                id=self._ids[theirs],
                name=self._names.original(name),
                arguments=arguments,
            )
        index = self._indices[theirs]
        self._arguments[index] += (arguments := self._calls[index].add(arguments))
        return ToolCallDelta(index=index, arguments=arguments)

    def _true_reason(self, said: FinishReason, usage: Usage) -> FinishReason:
        """Corrects the finish reason of answers with tool calls.

        vLLM, like OpenAI, says "stop" after a call that the request forced by name, and
        "tool_calls" after one that ran out of tokens. Ours is "tool_calls" if all calls are
        complete, and "length" if tokens ran out within one.
        """
        if not self._arguments:
            return "stop" if said == "tool_calls" else said
        if said not in ("stop", "tool_calls"):
            return said
        limits = [
            self._request.output_limit,
            self._context_window and self._context_window - usage.prompt_tokens,
        ]
        ran_out = any(limit and usage.completion_tokens >= limit for limit in limits)
        return "length" if ran_out and not _is_json(self._arguments[-1]) else "tool_calls"


class _Pieces:
    """Text in pieces that may split a surrogate pair, which is how JSON escapes an emoji."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, piece: str) -> str:
        """The text that is complete so far; half a pair is kept until the other half comes."""
        if not self._half and _is_whole(piece):
            return piece
        text = self._half + piece
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return _whole(text.removesuffix(self._half))

    def end(self) -> str:
        """What is left, if the other half never came."""
        return _whole(self._half)


def _is_whole(text: str) -> bool:
    return text.isascii() or not _SURROGATE.search(text)


def _whole(text: str) -> str:
    """Joins surrogate pairs; half a pair, which UTF-8 can't hold, becomes U+FFFD."""
    if _is_whole(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _field(of: Any, name: str) -> Any:
    """A field of a JSON object, None if it is missing; or an object's attribute, which must be
    there: what has no attributes is not the object that is expected."""
    return of.get(name) if isinstance(of, dict) else getattr(of, name)


def _delta(choice: Any) -> Any:
    """What a choice adds to the answer. An answer that was asked for whole has a message."""
    if isinstance(choice, dict):
        return choice["message"] if "message" in choice else choice["delta"]
    return choice.delta


def _optional(of: Any, name: str) -> Any:
    """A field that not every provider or library has; None if it is missing."""
    return of.get(name) if isinstance(of, dict) else getattr(of, name, None)


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError("not a string")
    return value or ""


def _reasoning(delta: Any) -> str:
    """The text of a piece of reasoning."""
    for field in _REASONING:
        if text := _text(_optional(delta, field)):
            return text
    return "".join(
        _text(thought.get("thinking") or thought.get("text") or thought.get("summary"))
        for thought in _thoughts(delta)
    )


def _thoughts(delta: Any) -> list[dict[str, Any]]:
    """Reasoning in Anthropic's form (from LiteLLM) or OpenRouter's; encrypted, it has no text."""
    for field in _PARTS:
        if thoughts := _optional(delta, field):
            return list(thoughts)
    return []


def _stop(choice: Any) -> str | None:
    """Which stop string ended the answer: vLLM's `stop_reason`, SGLang's `matched_stop`, where it
    isn't a token's number."""
    said = _optional(choice, "stop_reason") or _optional(choice, "matched_stop")
    return said if isinstance(said, str) else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):  # not JSON, or nested too deeply
        return False
    return True


def _usage(usage: Any) -> Usage:
    # Cached tokens are part of the prompt's, as OpenAI counts; LiteLLM converts Anthropic's counts.
    prompt = _optional(usage, "prompt_tokens_details")
    written = _optional(prompt, "cache_creation_token_details")
    completion = _optional(usage, "completion_tokens_details")
    return Usage(
        prompt_tokens=_tokens(_field(usage, "prompt_tokens")),
        completion_tokens=_tokens(_field(usage, "completion_tokens") or 0),
        cached_tokens=_count(prompt, "cached_tokens"),
        reasoning_tokens=_count(completion, "reasoning_tokens"),
        cache_written_tokens=_count(prompt, "cache_write_tokens")
        or _count(prompt, "cache_creation_tokens"),
        cache_written_1h_tokens=_count(written, "ephemeral_1h_input_tokens"),
    )


def _tier(event: Any) -> str | None:
    tier = _optional(event, "service_tier")
    return _whole(tier) if isinstance(tier, str) else None


def _count(details: Any, field: str) -> int:
    return _tokens(_optional(details, field) or 0)


def _tokens(count: Any) -> int:
    """A number of tokens; what is impossible becomes the nearest that isn't."""
    return min(max(int(count), 0), _MOST_TOKENS)


def _entries(logprobs: Any) -> tuple[dict[str, Any], ...]:
    content = _optional(logprobs, "content") or ()
    return tuple(_sendable(entry) for entry in content)


def _sendable(entry: Any) -> dict[str, Any]:
    """The entry as JSON in UTF-8 can hold it, even if a token is half a surrogate pair.

    Raises:
        ValueError: it holds a number that JSON doesn't have.
    """
    fields = entry if isinstance(entry, dict) else entry.model_dump(warnings=False)
    text = json.dumps(fields, ensure_ascii=False, allow_nan=False)
    sendable: dict[str, Any] = json.loads(_whole(text))
    return sendable
