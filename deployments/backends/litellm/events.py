"""Reads LiteLLM's streams without the objects that it makes of every event.

LiteLLM makes an object of the provider's library of each event, one of its own, and passes that
through a wrapper, which takes most of a millisecond. Where a provider's events have OpenAI's form
already, they are read from the response as JSON. Where LiteLLM translates them, they come from its
translator, without the wrapper. All other streams are read as LiteLLM gives them.
"""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from time import monotonic
from typing import Any

import httpx
import litellm
import openai
from litellm.litellm_core_utils.core_helpers import map_finish_reason
from pydantic_core import from_json

from deployments.backends.litellm import patches
from deployments.backends.litellm.calls import raise_as_litellm
from deployments.contract import ChatRequest
from deployments.errors import ProviderError

_DONE = b"[DONE]"
# Seconds to wait for the end of a response after that mark.
_END_S = 0.1
# A server that never ends an event would otherwise fill the memory, and take all of the event loop.
_MOST_EVENT_BYTES = 2**21
# Seconds between two events of an answer that is wanted whole.
_PACE_S = 0.25
_TEXTS = ("content", "reasoning_content", "reasoning")
# What is said of a piece and isn't part of the answer.
_IGNORED = ("role",)


class Fields:
    """A JSON object whose fields are attributes; None where it has no such field."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # by which Python asks what an object can do
        return _readable(self._fields.get(name))

    def __bool__(self) -> bool:
        return bool(self._fields)

    def get(self, name: str) -> Any:
        """A field's value as it was sent."""
        return self._fields.get(name)

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """The object, as a pydantic model gives its own."""
        return self._fields


def _readable(value: Any) -> Any:
    if isinstance(value, dict):
        return Fields(value)
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return value


class Events:
    """The events of one answer.

    Args:
        stream: LiteLLM's stream of it.
        request: the request that is answered.
        name: the model's configured name.
        provider: its provider's name at LiteLLM.
        model: the provider's name for it.
    """

    def __init__(
        self, stream: Any, request: ChatRequest, *, name: str, provider: str, model: str
    ) -> None:
        self._stream = stream
        self._request = request
        self._name = name
        self._provider = provider
        self._model = model

    async def read(self) -> AsyncGenerator[Any, None]:
        """Yields them: objects of OpenAI's shape.

        Raises:
            Exception: LiteLLM's, or one of the libraries beneath it.
        """
        source = await self._source()
        if (response := patches.response_in_openais_format(source)) is not None:
            events = self._sent(response, source)
        elif patches.is_translator(source):
            events = self._translated(source)
        else:
            async for event in self._wrapped():
                yield event
            return
        try:
            async for event in self._watched(events):
                yield event
        except Exception as error:  # noqa: BLE001 - it is raised again
            raise_as_litellm(self._provider, self._model, error)

    async def _source(self) -> Any:
        """The stream within LiteLLM's."""
        if self._stream.completion_stream is None:  # it has not sent the request yet
            try:
                await self._stream.fetch_stream()
            except Exception as error:  # noqa: BLE001 - it is raised again
                raise_as_litellm(self._provider, self._model, error)
        return self._stream.completion_stream

    async def _wrapped(self) -> AsyncGenerator[Any, None]:
        """The events as LiteLLM gives them, which makes up a finish reason where none came."""
        async for event in self._stream:
            ends = event.choices and event.choices[0].finish_reason
            if ends and not patches.has_finish_reason(self._stream):
                raise ProviderError(
                    f"model '{self._name}' broke off its answer: no finish reason came"
                )
            yield event

    async def _translated(self, source: Any) -> AsyncGenerator[Any, None]:
        """The events as LiteLLM's translator gives them: some are None, some are not the
        provider's."""
        async for event in source:
            if isinstance(event, litellm.ModelResponseStream):
                yield event

    async def _sent(self, response: httpx.Response, source: Any) -> AsyncGenerator[Any, None]:
        """The events as the provider sent them, which have OpenAI's form."""
        held = _Held(is_whole=not self._request.stream)
        failure: Exception | None = None
        try:
            async for pieces in _data(response, is_sse=patches.is_openais(source)):
                for piece in pieces:
                    if (event := _event(piece, source)) is not None:
                        for ready in held.add(event):
                            yield Fields(ready)
                for ready in held.due():
                    yield Fields(ready)
        except Exception as error:  # noqa: BLE001 - it is raised again
            failure = error
        for ready in held.rest():
            yield Fields(ready)
        if failure:
            raise failure

    async def _watched(self, events: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """The events, and the usage if the provider reports none, as LiteLLM counts it. Once the
        answer is complete, the connection may break off."""
        text: list[str] = []
        is_complete = is_counted = False
        try:
            async for event in events:
                # Some report a usage without numbers; no prompt has 0 tokens.
                reported = getattr(getattr(event, "usage", None), "prompt_tokens", None)
                is_counted = is_counted or bool(reported)
                if event.choices:
                    choice = event.choices[0]
                    is_complete = is_complete or bool(choice.finish_reason)
                    text.append(choice.delta.content or "")
                yield event
        except (httpx.ReadError, httpx.RemoteProtocolError):
            if not is_complete:
                raise
        if is_complete and not is_counted:
            usage = await asyncio.to_thread(self._count, "".join(text))
            yield Fields({"choices": [], "usage": usage})

    def _count(self, answer: str) -> dict[str, int]:
        count, model = litellm.token_counter, self._model
        messages = [dict(message) for message in self._request.messages]
        return {
            "prompt_tokens": count(model=model, messages=messages),
            "completion_tokens": count(model=model, text=answer, count_response_tokens=True),
        }


class _Held:
    """Joins the pieces of an answer that nobody reads before it is complete.

    What follows on the reading costs more than the reading. One event in a while is enough to show
    that the provider is alive.
    """

    def __init__(self, *, is_whole: bool) -> None:
        self._is_whole = is_whole
        self._event: dict[str, Any] | None = None
        self._given = 0.0  # when the last one was

    def add(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        """Adds an event, and returns what must not be held back."""
        if not self._is_whole:
            return [event]
        if self._event is not None and _is_joined(self._event, event):
            return []
        ready = self.rest()
        self._event = event
        return ready

    def due(self) -> list[dict[str, Any]]:
        """What has been held long enough."""
        if self._event is None or monotonic() < self._given + _PACE_S:
            return []
        return self.rest()

    def rest(self) -> list[dict[str, Any]]:
        """What is held."""
        if self._event is None:
            return []
        event, self._event, self._given = self._event, None, monotonic()
        return [event]


def _is_joined(held: dict[str, Any], event: dict[str, Any]) -> bool:
    """Adds an event's text to another's, if both have nothing else."""
    into, added = _only_text(held), _only_text(event)
    if into is None or added is None:
        return False
    for field in _TEXTS:
        if text := added.get(field):
            into[field] = (into.get(field) or "") + text
    return True


def _only_text(event: dict[str, Any]) -> dict[str, Any] | None:
    """The delta of an event that has text and nothing else."""
    choices = event.get("choices")
    if event.get("usage") or not isinstance(choices, list) or len(choices) != 1:
        return None
    choice = choices[0]
    if choice.get("finish_reason") or choice.get("logprobs"):
        return None
    delta: dict[str, Any] = choice["delta"]
    for field, value in delta.items():
        if field in _TEXTS:
            if value is not None and not isinstance(value, str):
                return None
        elif value and field not in _IGNORED:
            return None
    return delta


def _event(data: bytes, source: Any) -> dict[str, Any] | None:
    """An event in the form that `openai_chunks` reads; None if LiteLLM skips it."""
    try:
        event = _json(data)
    except ValueError:
        if patches.is_openais(source):
            raise
        return None
    if not isinstance(event, dict):
        raise TypeError("an event is not an object")
    if event.get("error"):
        _raise(event["error"], event, source)
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        delta = choice["delta"] = choice.get("delta") or {}
        for call in delta.get("tool_calls") or ():
            if not isinstance(call.get("id") or "", str):
                raise TypeError("the id of a call is not a string")
        if reason := choice.get("finish_reason"):
            if reason == "error":
                raise RuntimeError(f"the stream ended with an error: {choice}")
            choice["finish_reason"] = map_finish_reason(reason)
    if isinstance(usage := event.get("usage"), dict):
        event["usage"] = litellm.Usage(**usage)
    return event


def _json(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError:  # it may hold half of a surrogate pair, which Python's own parser takes
        return json.loads(data)


def _raise(error: Any, event: dict[str, Any], source: Any) -> None:
    """Raises an error event of a stream as the library that LiteLLM uses does."""
    if not patches.is_openais(source):
        source.chunk_parser(event)
    message = error.get("message") if isinstance(error, dict) else None
    raise openai.APIError(
        message=message if isinstance(message, str) else "An error occurred during streaming",
        request=source.response.request,
        body=error,
    )


async def _data(response: httpx.Response, *, is_sse: bool) -> AsyncGenerator[list[bytes], None]:
    """The data of the events that come at a time, up to the end mark."""
    lines = _Lines(is_sse=is_sse)
    received = response.aiter_bytes()
    async for piece in received:
        data = lines.add(piece)
        if _DONE in data:
            yield data[: data.index(_DONE)]
            break
        yield data
    else:
        yield lines.rest()
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(_END_S):
            async for _ in received:  # a connection is used again only if it was read to the end
                pass


class _Lines:
    """Takes a stream of events apart.

    Args:
        is_sse: whether the lines between two empty ones are one event, as the standard says; else
            each line is.
    """

    def __init__(self, *, is_sse: bool) -> None:
        self._is_sse = is_sse
        self._line = b""
        self._event: list[bytes] = []
        self._event_bytes = 0

    def add(self, received: bytes) -> list[bytes]:
        """The data of the events that are complete.

        Raises:
            ValueError: an unfinished event has more than `_MOST_EVENT_BYTES`.
        """
        *lines, self._line = (self._line + received).split(b"\n")
        found = [data for line in lines if (data := self._data(line.strip()))]
        if self._event_bytes + len(self._line) > _MOST_EVENT_BYTES:
            raise ValueError(f"an event of the stream has over {_MOST_EVENT_BYTES} bytes")
        return found

    def rest(self) -> list[bytes]:
        """The data of a last event without an end."""
        return self.add(b"\n\n")

    def _data(self, line: bytes) -> bytes:
        data = line[5:].lstrip() if line.startswith(b"data:") else b""
        if not self._is_sse:
            return data or (line if line.startswith(b"{") else b"")
        if line:
            if data:
                self._event.append(data)
                self._event_bytes += len(data)
            return b""
        data = b"\n".join(self._event)
        self._event.clear()
        self._event_bytes = 0
        return data
