"""Answers by a vLLM or SGLang server elsewhere, through its OpenAI API."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import aiohttp
from pydantic_core import from_json, to_json
from yarl import URL

from deployments.backends.embeddings import read_embeddings
from deployments.backends.openai_chunks import read
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.backends.openai_endpoint.connections import Connections, proxy_of
from deployments.backends.openai_endpoint.errors import (
    Failure,
    NoResponse,
    NotJSON,
    TooLong,
    translate,
)
from deployments.backends.openai_endpoint.events import EventReader
from deployments.backends.openai_requests import SUPPORTED, body
from deployments.backends.provider_errors import translated
from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest, Chunk, EmbeddingRequest, Embeddings
from deployments.errors import LLMError, ProviderError

_CONNECT_SECONDS = 5.0
_LIST_SECONDS = 10.0
_MOST_REDIRECTS = 20
# vLLM and SGLang ignore the key unless they were started with one.
_NO_KEY = "EMPTY"
_END = b"[DONE]"
# Limits on what is read of an answer (100,000 tokens with their probabilities have less), of a list
# of models, and of an error.
_MOST_ANSWER_BYTES, _MOST_LIST_BYTES, _MOST_ERROR_BYTES = 2**28, 2**23, 2**16


class OpenAIBackend:
    """A model on a vLLM or SGLang server, which stops an answer once its client disconnects.

    Answers are streamed from the server, so that silence is noticed, unless the configuration has
    `whole`.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config
        self._key = config.resolve_api_key()
        self._root = URL(config.base_url)
        self._chat_url = self._root / "chat/completions"
        self._embeddings_url = self._root / "embeddings"
        self._connections = Connections()
        self._options: dict[str, Any] = {
            "headers": {
                "Accept": "application/json",
                "Authorization": f"Bearer {self._key or _NO_KEY}",
                "Content-Type": "application/json",
            },
            # All other waiting has limits of its own.
            "timeout": aiohttp.ClientTimeout(
                total=None, connect=min(_CONNECT_SECONDS, config.timeout)
            ),
            "proxy": proxy_of(self._root),
            "max_redirects": _MOST_REDIRECTS,
        }

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` as a stream of chunks."""
        request = request.within(SUPPORTED)
        names = ToolNames.of(request)
        thinking = self._config.thinking_seconds(request.reasoning_effort)
        with translated(self._translate):
            whole = self._config.whole and not request.stream
            asked = to_json(
                body(request, names, model=self._config.provider_model, stream=not whole)
            )
            async with asyncio.timeout(max(self._config.timeout, thinking)):
                response = await self._ask("POST", self._chat_url, asked)
            # Leaving it before its end closes the connection, and so stops the generation.
            async with (
                response,
                aclosing(_whole(response) if whole else _events(response)) as events,
                aclosing(
                    read(
                        events,
                        request,
                        names,
                        silence=self._config.timeout,
                        thinking=thinking,
                        context_window=self._config.context_window,
                    )
                ) as chunks,
            ):
                async for chunk in chunks:
                    yield chunk

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The embeddings of the request's inputs, for which vLLM calls a model's pooler."""
        asked = request.model_dump(exclude_none=True)
        # In base64 they have a quarter of the bytes; SGLang sends numbers all the same.
        asked |= {"model": self._config.provider_model, "encoding_format": "base64"}
        with translated(self._translate):
            async with asyncio.timeout(self._config.timeout):
                content = to_json(asked)
                async with await self._ask("POST", self._embeddings_url, content) as response:
                    received = await _read(response, _MOST_ANSWER_BYTES)
                # In a thread, since there may be millions of numbers.
                return await asyncio.to_thread(_embeddings, received, request)

    async def context_window(self) -> int | None:
        """The configured one, else the one in the server's list of models."""
        if self._config.context_window is not None:
            return self._config.context_window
        with translated(self._translate):
            async with asyncio.timeout(_LIST_SECONDS):
                async with await self._ask("GET", self._root / "models") as response:
                    listed = _parsed(await _read(response, _MOST_LIST_BYTES))
            return self._window_in(listed)

    async def check_health(self) -> None:
        """Raises if the backend is closed; a server that is down is not the replica's fault."""
        if self._connections.is_closed:
            raise RuntimeError("the backend is closed")

    async def aclose(self) -> None:
        """Gives up the connections."""
        await self._connections.close()

    async def _ask(
        self, method: str, url: URL, content: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """The beginning of a successful response.

        Raises:
            NoResponse: the server can't be reached, or closed the connection without a response.
            Failure: the server answers with an error.
        """
        try:
            response = await self._connections.session.request(
                method, url, data=content, **self._options
            )
        except aiohttp.ClientError as error:
            raise NoResponse(str(error)) from error
        if 200 <= response.status < 300:
            return response
        async with response:
            raise _failure(response, await _beginning(response))

    def _window_in(self, listed: Any) -> int | None:
        try:
            for model in listed["data"]:
                longest = model.get("max_model_len")
                if model["id"] == self._config.provider_model and isinstance(longest, int):
                    return longest
        except (AttributeError, LookupError, TypeError) as error:
            raise ProviderError(
                f"model '{self._config.name}' failed: its provider sent a malformed list of models"
            ) from error
        return None

    def _translate(self, error: Exception) -> LLMError | None:
        return translate(error, self._config.name, secret=self._key)


async def _whole(response: aiohttp.ClientResponse) -> AsyncGenerator[Any, None]:
    """An answer that was asked for whole, as the only event of a stream."""
    yield _sound(_parsed(await _read(response, _MOST_ANSWER_BYTES)))


def _embeddings(received: bytearray, request: EmbeddingRequest) -> Embeddings:
    said = _sound(_parsed(received))
    fields = said if isinstance(said, dict) else {}
    return read_embeddings(fields.get("data"), fields.get("usage"), request)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytearray:
    """The whole body.

    Raises:
        TooLong: it has more than `most` bytes.
    """
    content = bytearray()
    while received := await response.content.readany():
        content += received
        if len(content) > most:
            raise TooLong(f"the response has over {most} bytes")
    return content


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The first `_MOST_ERROR_BYTES` of an error's body; the rest is not read."""
    content = bytearray()
    while len(content) < _MOST_ERROR_BYTES and (received := await response.content.readany()):
        content += received
    return bytes(content[:_MOST_ERROR_BYTES])


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[Any, None]:
    """The parsed events of a stream, which is read to the end of the body and not only to
    `[DONE]`: a connection is used again only if its response was read to the end.

    Raises:
        Failure: the server reports an error within the stream.
    """
    reader = EventReader()
    while received := await response.content.readany():
        for data in reader.feed(received):
            if data.startswith(_END):
                continue
            yield _sound(_parsed(data))


def _sound(event: Any) -> Any:
    if isinstance(event, dict) and (error := event.get("error")):
        raise Failure.in_event(error)
    return event


def _parsed(data: bytes | bytearray) -> Any:
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        # Python's parser also takes half a surrogate pair, which another event may complete.
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotJSON(str(error)) from error


def _failure(response: aiohttp.ClientResponse, received: bytes) -> Failure:
    text = received.decode("utf-8", "replace").strip()
    status = response.status
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return Failure(text or f"Error code: {status}", status, text, response.headers)
    error = said.get("error", said) if isinstance(said, dict) else said
    return Failure(f"Error code: {status} - {said}", status, error, response.headers)
