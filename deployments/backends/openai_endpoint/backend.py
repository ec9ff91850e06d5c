"""Answers by a vLLM or SGLang server elsewhere, through its OpenAI API."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletionChunk

from deployments.backends.openai_chunks import read
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.backends.openai_requests import SUPPORTED, body, refusal
from deployments.backends.provider_errors import by_status, explain, look_up, translated
from deployments.backends.tool_names import ToolNames
from deployments.causes import causes
from deployments.contract import ChatRequest, Chunk
from deployments.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
)
from deployments.internals import require

_CONNECT_SECONDS = 5.0
_LIST_SECONDS = 10.0
# vLLM and SGLang ignore the key unless they were started with one, but the client needs some.
_NO_KEY = "EMPTY"

# A test fails when the openai library has an error that is not here.
ERRORS: Mapping[type[Exception], type[LLMError]] = {
    openai.APITimeoutError: DeadlineExceeded,
    openai.APIConnectionError: Unreachable,
    openai.BadRequestError: InvalidRequest,
    openai.UnprocessableEntityError: InvalidRequest,
    openai.AuthenticationError: ProviderRejected,
    openai.OAuthError: ProviderRejected,
    openai.PermissionDeniedError: ProviderRejected,
    openai.NotFoundError: ProviderRejected,
    openai.RateLimitError: RateLimited,
    openai.ConflictError: ProviderError,
    openai.InternalServerError: ProviderError,
    openai.APIResponseValidationError: ProviderError,
    # Any other status, or an error event within a stream: `_kind` reads its number.
    openai.APIStatusError: ProviderError,
    openai.APIError: ProviderError,
    openai.OpenAIError: ProviderError,
    # While the answer streams, httpx's own errors come through.
    httpx.TimeoutException: DeadlineExceeded,
    httpx.RequestError: ProviderError,
    TimeoutError: DeadlineExceeded,
    json.JSONDecodeError: ProviderError,
    UnicodeDecodeError: ProviderError,
}


class _WholeStream(openai.AsyncStream[ChatCompletionChunk]):
    """A stream that is read to the end of its body, not only to `[DONE]`.

    A connection is reused only if its response was read to the end.
    """

    async def _iter_events(self) -> AsyncGenerator[Any, None]:
        async for event in super()._iter_events():
            if event.data != "[DONE]":
                yield event


require(openai.AsyncStream, "_iter_events")


class OpenAIBackend:
    """A model on a vLLM or SGLang server, with one connection pool for the replica's lifetime.

    Every answer is streamed from the server, so that it stops there once the client disconnects.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config
        self._key = config.resolve_api_key()
        limits = httpx.Limits(
            max_connections=config.max_ongoing_requests,
            max_keepalive_connections=config.max_ongoing_requests,
        )
        self._connect_s = min(_CONNECT_SECONDS, config.timeout)
        timeout = httpx.Timeout(config.timeout, connect=self._connect_s)
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=self._key or _NO_KEY,
            max_retries=0,  # the router decides whether to retry, and where
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout),
        )

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` as a stream of chunks."""
        request = request.within(SUPPORTED)
        names = ToolNames.of(request)
        thinking = self._config.thinking_seconds(request.reasoning_effort)
        patience = max(self._config.timeout, thinking)
        with translated(self._translate):
            async with asyncio.timeout(patience):
                stream = await self._client.post(
                    "/chat/completions",
                    body=body(request, names, model=self._config.provider_model),
                    cast_to=ChatCompletionChunk,
                    options={"timeout": httpx.Timeout(patience, connect=self._connect_s)},
                    stream=True,
                    stream_cls=_WholeStream,
                )
            async with (
                stream,
                aclosing(
                    read(
                        stream,
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

    async def context_window(self) -> int | None:
        """The configured one, else the one in the server's list of models."""
        if self._config.context_window is not None:
            return self._config.context_window
        with translated(self._translate):
            async with asyncio.timeout(_LIST_SECONDS):
                listed = await self._client.models.list()
        for model in listed.data:
            longest = getattr(model, "max_model_len", None)
            if model.id == self._config.provider_model and isinstance(longest, int):
                return longest
        return None

    async def check_health(self) -> None:
        """Raises if the client is closed; a server that is down is not the replica's fault."""
        if self._client.is_closed():
            raise RuntimeError("the client is closed")

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def _translate(self, error: Exception) -> LLMError | None:
        kind = _kind(error)
        if kind is None:
            return None
        response = getattr(error, "response", None)
        return explain(
            kind,
            self._config.name,
            _reason(error),
            secret=self._key,
            param=error.param if isinstance(error, openai.APIError) else None,
            headers=response.headers if response is not None else None,
        )


def _kind(error: Exception) -> type[LLMError] | None:
    kind = look_up(ERRORS, error)
    if any(isinstance(cause, httpx.ConnectTimeout) for cause in causes(error)):
        return Unreachable  # nothing was sent, so it is safe to retry
    if isinstance(error, openai.APIStatusError):
        kind = by_status(error.status_code, error.body)
    if type(error) is openai.APIError and isinstance(error.code, int):
        # vLLM reports an error within a stream as an event, with the status as its `code`.
        kind = by_status(error.code, error.body)
    if kind is InvalidRequest and isinstance(error, openai.APIError):
        return refusal(error.code, error.param, _reason(error))
    return kind


def _reason(error: Exception) -> str:
    body = getattr(error, "body", None)
    return str(body["message"] if isinstance(body, dict) and "message" in body else error)
