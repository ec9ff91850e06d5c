"""Answers by a vLLM or SGLang server elsewhere, through its OpenAI API."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletionChunk

from deployments.config import EndpointConfig
from deployments.contract import DESCRIPTIVE, ChatRequest, Chunk
from deployments.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
)
from deployments.openai_chunks import read
from deployments.provider_errors import by_status, explain, look_up, translated
from deployments.tool_names import ToolNames

# Both servers honour these; a field that they don't know, such as `verbosity`, they pass over.
# https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html
# https://docs.sglang.ai/basic_usage/openai_api_completions.html
_SUPPORTED = frozenset(
    "temperature top_p top_k min_p max_tokens max_completion_tokens stop seed frequency_penalty "
    "presence_penalty repetition_penalty logit_bias logprobs top_logprobs tools tool_choice "
    "parallel_tool_calls response_format reasoning_effort chat_template_kwargs".split()
)

_CONNECT_SECONDS = 5.0
# vLLM and SGLang ignore the key unless they were started with one, but the client wants some.
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
    # While the answer streams, the errors of what is underneath come through as they are.
    httpx.TimeoutException: DeadlineExceeded,
    httpx.RequestError: ProviderError,
    TimeoutError: DeadlineExceeded,
    json.JSONDecodeError: ProviderError,
    UnicodeDecodeError: ProviderError,
}


class _WholeStream(openai.AsyncStream[ChatCompletionChunk]):
    """A stream read to the end of its body, not to its `[DONE]` only.

    A connection whose last response was not read to the end is closed, not used again.
    """

    async def _iter_events(self) -> AsyncGenerator[Any, None]:
        async for event in super()._iter_events():
            if event.data != "[DONE]":
                yield event


class OpenAIBackend:
    """A model on a vLLM or SGLang server; one pool of connections for the replica's life.

    Every answer is streamed from the server, so that one whose reader has gone is stopped there.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config
        self._key = config.resolve_api_key()
        limits = httpx.Limits(
            max_connections=config.max_ongoing_requests,
            max_keepalive_connections=config.max_ongoing_requests,
        )
        connect = min(_CONNECT_SECONDS, config.timeout)
        timeout = httpx.Timeout(config.timeout, connect=connect)
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=self._key or _NO_KEY,
            max_retries=0,  # the router decides on another try, and where
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(limits=limits, timeout=timeout),
        )

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` as a stream of chunks."""
        request.require(_SUPPORTED)
        names = ToolNames.of(request)
        with translated(self._translate):
            async with asyncio.timeout(self._config.timeout):
                stream = await self._client.post(
                    "/chat/completions",
                    body=self._body(request, names),
                    cast_to=ChatCompletionChunk,
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
                        context_window=self._config.context_window,
                    )
                ) as chunks,
            ):
                async for chunk in chunks:
                    yield chunk

    async def check_health(self) -> None:
        """Raises if the client is closed; a server that is down is no fault of this replica's."""
        if self._client.is_closed():
            raise RuntimeError("the client is closed")

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._client.close()

    def _body(self, request: ChatRequest, names: ToolNames) -> dict[str, Any]:
        asked = request.parameters()
        if request.max_completion_tokens is not None:
            asked.pop("max_tokens", None)  # OpenAI's older name for it
        if request.tools:
            asked["tools"] = names.tools(request)
        if request.tool_choice is not None:
            asked["tool_choice"] = names.tool_choice(request)
        return {
            "model": self._config.provider_model,
            "messages": [_known_role(message) for message in names.messages(request)],
            "stream": True,
            "stream_options": {"include_usage": True},
            **{name: value for name, value in asked.items() if name not in DESCRIPTIVE},
        }

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


def _known_role(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's newer name for the system message is unknown to most models' chat templates."""
    return {**message, "role": "system"} if message["role"] == "developer" else message


def _kind(error: Exception) -> type[LLMError] | None:
    kind = look_up(ERRORS, error)
    if type(error) is openai.APIStatusError:
        kind = by_status(error.status_code)
    if type(error) is openai.APIError and isinstance(error.code, int):
        # vLLM reports what it finds wrong while it streams in an event, the status as its `code`.
        kind = by_status(error.code)
    if kind is InvalidRequest and isinstance(error, openai.APIError):
        return _kind_of_refusal(error)
    return kind


def _kind_of_refusal(error: openai.APIError) -> type[LLMError]:
    # vLLM names what was too long in `param`.
    if error.code == "context_length_exceeded" or error.param in ("input_tokens", "input_text"):
        return ContextLengthExceeded
    if error.code in ("content_filter", "content_policy_violation"):
        return ContentFiltered
    return ContextLengthExceeded if _sglang_says_too_long(_reason(error)) else InvalidRequest


def _sglang_says_too_long(reason: str) -> bool:
    # SGLang gives a long prompt no code of its own (`TokenizerManager._validate_one_request`).
    return (
        "is longer than the model's context length" in reason
        or "exceeds the model's maximum context length" in reason
    )


def _reason(error: Exception) -> str:
    body = getattr(error, "body", None)
    return str(body["message"] if isinstance(body, dict) and "message" in body else error)
