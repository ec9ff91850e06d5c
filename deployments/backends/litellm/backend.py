"""Answers by any provider that LiteLLM knows."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import cache
from typing import Any
from weakref import WeakSet

import litellm
import openai
from litellm import exceptions

from deployments.backends.embeddings import read_embeddings
from deployments.backends.litellm import patches
from deployments.backends.litellm.calls import complete, embed
from deployments.backends.litellm.catalogue import listed
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.litellm.errors import (
    headers_of,
    is_image_not_fetched,
    kind_of,
    missing_module,
    reason_of,
    status_of,
)
from deployments.backends.litellm.events import Events
from deployments.backends.litellm.openai_requests import check_client
from deployments.backends.litellm.parameters import Parameters
from deployments.backends.openai_chunks import read
from deployments.backends.provider_errors import explain, translated
from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest, Chunk, EmbeddingRequest, Embeddings
from deployments.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    Unreachable,
    UnsupportedParameter,
    Untranslatable,
)
from deployments.request import not_fetched

patches.patch()

# The models of this process that are not closed.
_OPEN: "WeakSet[LiteLLMBackend]" = WeakSet()


class _AboutToSend(BaseException):
    """Stops a request just before it is sent. LiteLLM swallows what derives from Exception."""


class LiteLLMBackend:
    """A model of a provider that LiteLLM knows. Its connections are LiteLLM's own, which all models
    of a process share; they last until the last of them is closed.

    Without `api_key`, LiteLLM looks for a key where the provider's own client does (for OpenAI, in
    `OPENAI_API_KEY`). Where a provider doesn't report usage, LiteLLM counts the tokens. For some
    providers LiteLLM skips events that are not JSON; a stream that ends without a finish reason is
    an error with all of them.
    """

    def __init__(self, config: LiteLLMConfig) -> None:
        _check_provider(config)
        _warm_up()
        self._config = config
        self._key = config.resolve_api_key()
        self._parameters = Parameters(config)
        _OPEN.add(self)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` as a stream of chunks."""
        with translated(self._translate):
            await self._parameters.look_up()
            request = self._parameters.check(request)
            names = ToolNames.of(request)
            thinking = self._config.thinking_seconds(request.reasoning_effort)
            patience = max(self._config.timeout, thinking)
            stream = await self._open(request, names, patience)
            try:
                async with aclosing(
                    read(
                        self._events(stream, request),
                        request,
                        names,
                        silence=self._config.timeout,
                        thinking=thinking,
                        context_window=self._config.context_window,
                    )
                ) as chunks:
                    async for chunk in chunks:
                        yield chunk
            finally:
                await stream.aclose()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The embeddings of the request's inputs."""
        config = self._config
        call = {
            "api_base": config.hostname,
            "api_key": self._key,
            "timeout": config.timeout,
            "num_retries": 0,
            "max_retries": 0,
        }
        with translated(self._translate):
            call |= self._parameters.embedding(request)
            async with asyncio.timeout(config.timeout):
                reply = await embed(config.provider, config.provider_model, call)
            return await asyncio.to_thread(
                read_embeddings, reply.data, reply.usage and reply.usage.model_dump(), request
            )

    async def context_window(self) -> int | None:
        """The configured one, else what LiteLLM lists for this provider."""
        entry = listed(self._config.provider, self._config.provider_model)
        window = self._config.context_window or entry.get("max_input_tokens")
        return int(window) if window else None

    async def check_health(self) -> None:
        """Always healthy: nothing here can break for good, and asking the provider would cost."""

    async def aclose(self) -> None:
        """Closes LiteLLM's connections, if no other model of this process uses them."""
        _OPEN.discard(self)
        if not _OPEN:
            await litellm.close_litellm_async_clients()
            patches.forget_closed_clients()

    async def _open(self, request: ChatRequest, names: ToolNames, patience: float) -> Any:
        """LiteLLM's stream of the answer, awaited for `patience` seconds.

        Raises:
            Untranslatable: LiteLLM can't write the request in the provider's format.
        """
        sent = threading.Event()
        try:
            return await self._complete(request, names, patience, sent.set)
        except Exception as error:  # whatever LiteLLM raises: what counts is whether it was sent
            if sent.is_set() or isinstance(error, TimeoutError):
                raise
            if is_image_not_fetched(error) or missing_module(error):
                raise
            raise self._explain(await self._kind_unsent(error), error) from None

    async def _kind_unsent(self, error: Exception) -> type[LLMError]:
        """Our class for what kept a request from being sent."""
        if isinstance(error, exceptions.UnsupportedParamsError):
            return UnsupportedParameter
        kind = kind_of(error) or ProviderError
        # If a token had to be fetched first, that is what failed; success now would prove nothing.
        fetched = status_of(error) is not None or issubclass(kind, Unreachable | DeadlineExceeded)
        if not fetched and await self._sends_plain_requests():
            return Untranslatable
        return ProviderRejected if issubclass(kind, InvalidRequest) else kind

    async def _sends_plain_requests(self) -> bool:
        """Whether a plain request would be sent. If not, the key, a library or the address is
        wrong, which the operator must fix."""

        def stop() -> None:
            raise _AboutToSend

        plain = ChatRequest(model=self._config.name, messages=[{"role": "user", "content": "Hi"}])
        try:
            stream = await self._complete(plain, ToolNames.of(plain), self._config.timeout, stop)
        except _AboutToSend:
            return True
        except Exception:  # noqa: BLE001 - whatever it is, it isn't the caller's fault
            return False
        await stream.aclose()
        return True

    async def _complete(
        self,
        request: ChatRequest,
        names: ToolNames,
        patience: float,
        before_sending: Callable[[], None],
    ) -> Any:
        """LiteLLM's stream; `before_sending` is called once the request is written."""
        call = {
            "api_base": self._config.hostname,
            "api_key": self._key,
            "stream": True,
            "stream_options": {"include_usage": True},
            "timeout": patience,
            "num_retries": 0,  # the router decides whether to retry, and where
            "max_retries": 0,
            **self._parameters.call(request, names),
        }
        token = patches.before_sending.set(before_sending)
        try:
            async with asyncio.timeout(patience):
                return await complete(self._config.provider, self._config.provider_model, call)
        finally:
            patches.before_sending.reset(token)

    def _events(self, stream: Any, request: ChatRequest) -> AsyncGenerator[Any, None]:
        config = self._config
        return Events(
            stream,
            request,
            name=config.name,
            provider=config.provider,
            model=config.provider_model,
        ).read()

    def _translate(self, error: Exception) -> LLMError | None:
        if isinstance(error, exceptions.MidStreamFallbackError) and error.original_exception:
            return self._translate(error.original_exception)
        if is_image_not_fetched(error):
            return not_fetched(self._config.name, "messages")
        if module := missing_module(error):
            return ProviderRejected(
                f"model '{self._config.name}' can't be called: {module}; the server's operator "
                "must install it where the model's replica runs"
            )
        kind = kind_of(error)
        return None if kind is None else self._explain(kind, error)

    def _explain(self, kind: type[LLMError], error: Exception) -> LLMError:
        return explain(
            kind,
            self._config.name,
            reason_of(error),
            secret=self._key,
            headers=headers_of(error),
        )


def _check_provider(config: LiteLLMConfig) -> None:
    if config.provider not in patches.providers():
        raise ValueError(
            f"model '{config.name}': the installed version of LiteLLM has no provider "
            f"'{config.backend}'"
        )


@cache
def _warm_up() -> None:
    """Imports what LiteLLM otherwise imports at the first request with `tools`: that takes a second
    of the event loop, and a missing library would fail those requests instead of the start."""
    tool = {"type": "function", "function": {"name": "one", "parameters": {"type": "object"}}}
    stream = litellm.completion(
        model="openai/none",
        messages=[{"role": "user", "content": "Hi"}],
        tools=[tool],
        mock_response="Hi",  # nothing is sent
        stream=True,
    )
    patches.check_stream(stream)
    check_client(openai.AsyncOpenAI(api_key="none"))
