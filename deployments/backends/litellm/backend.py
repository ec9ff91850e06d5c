"""Answers by any provider that LiteLLM knows."""

import asyncio
import json
import os
import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Any

# LiteLLM reads these when it is imported. Without them it fetches its price map and a list of
# headers from the network, retrying for seconds, and loads a `.env` file from where it runs.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS", "True")
os.environ.setdefault("LITELLM_MODE", "PRODUCTION")
# A caller's image URL is not for us to fetch: it could name any host that a replica reaches.
os.environ["MAX_IMAGE_URL_DOWNLOAD_SIZE_MB"] = "0"

import aiohttp
import httpx
import litellm
import openai
from litellm import exceptions
from litellm.litellm_core_utils import url_utils
from litellm.litellm_core_utils.exception_mapping_utils import ExceptionCheckers
from litellm.llms.openai.common_utils import OpenAIError
from litellm.llms.openai_like.json_loader import JSONProviderRegistry

from deployments.backends.litellm import patches as litellm_patches
from deployments.backends.litellm.catalogue import unknown_provider
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.litellm.provider_libraries import check_libraries
from deployments.backends.openai_chunks import read
from deployments.backends.provider_errors import by_status, explain, look_up, translated
from deployments.backends.tool_names import ToolNames
from deployments.causes import causes
from deployments.contract import ChatRequest, Chunk
from deployments.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
    RequestTooLarge,
    Unreachable,
    UnsupportedParameter,
    Untranslatable,
)
from deployments.internals import require
from deployments.request import DESCRIPTIVE, not_fetched

litellm_patches.patch()

# What providers take beyond LiteLLM's own list of OpenAI's parameters.
_BEYOND_OPENAI: Mapping[str, frozenset[str]] = {
    "hosted_vllm": frozenset(
        {
            *("top_k", "min_p", "repetition_penalty", "chat_template_kwargs"),
            *("continue_final_message", "ignore_eos"),
        }
    ),
    "anthropic": frozenset({"top_k"}),
    "gemini": frozenset({"top_k"}),
    "ollama_chat": frozenset({"top_k", "min_p"}),
}
# What LiteLLM takes and sends as something else: Ollama's `repeat_penalty` is no such penalty.
_MISTAKEN: Mapping[str, frozenset[str]] = {"ollama_chat": frozenset({"frequency_penalty"})}

# Providers that have no way to say "all tokens".
_WITHOUT_ALL_TOKENS = frozenset({"anthropic", "gemini"})

# A test fails when LiteLLM has an error that is not here.
ERRORS: Mapping[type[Exception], type[LLMError]] = {
    exceptions.AuthenticationError: ProviderRejected,
    exceptions.PermissionDeniedError: ProviderRejected,
    exceptions.PaymentRequiredError: ProviderRejected,
    exceptions.NotFoundError: ProviderRejected,
    exceptions.LiteLLMUnknownProvider: ProviderRejected,
    exceptions.ModelNotMappedError: ProviderRejected,
    exceptions.BudgetExceededError: ProviderRejected,
    exceptions.RateLimitError: RateLimited,
    exceptions.ContextWindowExceededError: ContextLengthExceeded,
    exceptions.ContentPolicyViolationError: ContentFiltered,
    exceptions.RejectedRequestError: ContentFiltered,
    exceptions.GuardrailRaisedException: ContentFiltered,
    exceptions.BlockedPiiEntityError: ContentFiltered,
    exceptions.ModifyResponseException: ContentFiltered,
    exceptions.SensitiveDataRouteException: ContentFiltered,
    exceptions.UnsupportedParamsError: UnsupportedParameter,
    exceptions.BadRequestError: InvalidRequest,
    exceptions.InvalidRequestError: InvalidRequest,
    exceptions.ImageFetchError: UnsupportedParameter,
    exceptions.VectorStoreSearchError: InvalidRequest,
    exceptions.UnprocessableEntityError: InvalidRequest,
    exceptions.Timeout: DeadlineExceeded,
    exceptions.APIConnectionError: ProviderError,
    exceptions.ServiceUnavailableError: ProviderError,
    exceptions.BadGatewayError: ProviderError,
    exceptions.InternalServerError: ProviderError,
    exceptions.MidStreamFallbackError: ProviderError,
    exceptions.APIResponseValidationError: ProviderError,
    exceptions.JSONSchemaValidationError: ProviderError,
    exceptions.APIError: ProviderError,
    exceptions.MockException: ProviderError,
    exceptions.OpenAIError: ProviderError,
    TimeoutError: DeadlineExceeded,
    # LiteLLM's own code on what it didn't expect of a provider.
    ValueError: ProviderError,
}

# What LiteLLM hides in its own errors, most of all in `InternalServerError`.
_UNREACHABLE = (httpx.ConnectError, aiohttp.ClientConnectorError, openai.APIConnectionError)
_NOT_FETCHED = (exceptions.ImageFetchError, url_utils.SSRFError)
_TIMEOUTS = (httpx.TimeoutException, openai.APITimeoutError, TimeoutError)


class _Leaving(BaseException):
    """Stops a request that is about to be sent. LiteLLM swallows what derives from Exception."""


class LiteLLMBackend:
    """A model of a provider that LiteLLM knows; its client pools last as long as the replica.

    Without `api_key`, LiteLLM looks for one where the provider's own client does (for OpenAI, in
    `OPENAI_API_KEY`). Where a provider doesn't report usage, LiteLLM counts the tokens. For some
    providers LiteLLM leaves out events that are no JSON; a stream that ends without a finish reason
    is an error with all of them.
    """

    def __init__(self, config: LiteLLMConfig) -> None:
        _check_provider(config)
        check_libraries(config)
        _wake()
        self._config = config
        self._key = config.resolve_api_key()
        model = config.litellm_model.removeprefix(f"{config.provider}/")
        supported = litellm.get_supported_openai_params(
            model, custom_llm_provider=config.provider
        ) or litellm.get_supported_openai_params(model, custom_llm_provider="openai")
        self._supported = (
            frozenset(supported) | _BEYOND_OPENAI.get(config.provider, frozenset())
        ) - _MISTAKEN.get(config.provider, frozenset())
        if _goes_on(model, config.provider):
            self._supported |= {"continue_final_message"}
        if config.service_tiers and "service_tier" not in self._supported:
            raise ValueError(
                f"model '{config.name}': service_tiers: LiteLLM sends none to '{config.provider}'"
            )
        self._lost = frozenset(_lost(model, config.provider))

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` as a stream of chunks."""
        request = self._honourable(request)
        names = ToolNames.of(request)
        thinking = self._config.thinking_seconds(request.reasoning_effort)
        patience = max(self._config.timeout, thinking)
        with translated(self._translate):
            stream = await self._begin(request, names, patience)
            try:
                async with aclosing(
                    read(
                        self._events(stream),
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

    async def context_window(self) -> int | None:
        """What is configured, else what LiteLLM lists for this provider."""
        if self._config.context_window is not None:
            return self._config.context_window
        full = self._config.litellm_model
        for name in (full, full.removeprefix(f"{self._config.provider}/")):
            listed = litellm.model_cost.get(name, {})
            longest = listed.get("max_input_tokens")
            # Some have several lists: "bedrock", "bedrock_converse".
            provider = str(listed.get("litellm_provider"))
            if longest and provider.startswith(self._config.provider):
                return int(longest)
        return None

    async def check_health(self) -> None:
        """Nothing of this replica can break for good, and asking the provider would cost."""

    async def aclose(self) -> None:
        """Closes LiteLLM's pools, which are the process's."""
        await litellm.close_litellm_async_clients()

    async def _begin(self, request: ChatRequest, names: ToolNames, patience: float) -> Any:
        """LiteLLM's stream of the answer, awaited for `patience` seconds.

        Raises:
            Untranslatable: LiteLLM can't write the request in the provider's format.
        """
        left = threading.Event()
        try:
            return await self._complete(request, names, patience, left.set)
        except Exception as error:  # whatever LiteLLM raises: what counts is whether it was sent
            sent = left.is_set() or isinstance(error, TimeoutError)
            if sent or _is_failure_of(error, *_NOT_FETCHED, ImportError):
                raise
            raise self._explain(await self._unsent(error), error) from None

    async def _unsent(self, error: Exception) -> type[LLMError]:
        """The class for what kept a request from being sent."""
        if isinstance(error, exceptions.UnsupportedParamsError):
            return UnsupportedParameter
        kind = _kind(error) or ProviderError
        # Where a token was asked for, that failed; whether it would now tells nothing.
        asked = _status(error) is not None or issubclass(kind, Unreachable | DeadlineExceeded)
        if not asked and await self._can_be_asked():
            return Untranslatable
        return ProviderRejected if issubclass(kind, InvalidRequest) else kind

    async def _can_be_asked(self) -> bool:
        """Whether a plain request would be sent. If not, the key, a library or the address is
        wrong, and the operator must mend it."""

        def stop() -> None:
            raise _Leaving

        plain = ChatRequest(model=self._config.name, messages=[{"role": "user", "content": "Hi"}])
        try:
            stream = await self._complete(plain, ToolNames.of(plain), self._config.timeout, stop)
        except _Leaving:
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
        leaving: Callable[[], None],
    ) -> Any:
        """LiteLLM's stream; `leaving` is called when the request has been written and is about to
        be sent."""
        call = self._call(request, names) | {"timeout": patience}
        told = litellm_patches.leaving.set(leaving)
        try:
            async with asyncio.timeout(patience):
                return await litellm.acompletion(**call)
        finally:
            litellm_patches.leaving.reset(told)

    def _honourable(self, request: ChatRequest) -> ChatRequest:
        """The request without what asks for nothing.

        Raises:
            UnsupportedParameter: for what the provider doesn't do or LiteLLM would lose.
        """
        if request.tool_choice == "none" and "tool_choice=none" in self._lost:
            # Without tools it comes to the same.
            request = request.model_copy(update={"tool_choice": None, "tools": None})
        supported = self._supported | {"max_tokens", "max_completion_tokens"}
        return request.within(supported, self._not_sent(request))

    def _not_sent(self, request: ChatRequest) -> dict[str, str]:
        """The parameters whose values don't go to the provider, and what to call each."""
        asked = request.parameters().items()
        lost = {name: what for name, value in asked if (what := _what(name, value)) in self._lost}
        if request.top_k == -1 and self._config.provider in _WITHOUT_ALL_TOKENS:
            lost["top_k"] = "top_k=-1"
        tier, allowed = request.service_tier, self._config.service_tiers
        if tier is not None and tier not in allowed:
            only = " or ".join(allowed) or "none"
            lost["service_tier"] = f"service_tier={tier}, since its configuration allows {only}"
        return lost

    def _call(self, request: ChatRequest, names: ToolNames) -> dict[str, Any]:
        asked = {
            name: value
            for name, value in request.parameters().items()
            # LiteLLM takes `metadata` for its own.
            if name not in DESCRIPTIVE or (name in self._supported and name != "metadata")
        }
        limits = {"max_tokens", "max_completion_tokens"} & asked.keys()
        if limits and (len(limits) == 2 or not limits <= self._supported):
            for name in limits:
                del asked[name]
            known = "max_completion_tokens" in self._supported
            asked["max_completion_tokens" if known else "max_tokens"] = request.output_limit
        messages = names.messages(request)
        if request.continue_final_message and self._config.provider == "hosted_vllm":
            asked["add_generation_prompt"] = False  # vLLM wants it said
        elif asked.pop("continue_final_message", None) and self._config.provider != "anthropic":
            # DeepSeek and Mistral want it so; Anthropic goes on with any last answer.
            messages[-1]["prefix"] = True
        if request.tools:
            asked["tools"] = names.tools(request)
        if request.tool_choice is not None:
            asked["tool_choice"] = names.tool_choice(request)
        return {
            "model": self._config.litellm_model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "api_base": self._config.hostname,
            "api_key": self._key,
            "num_retries": 0,  # the router decides on another try, and where
            "max_retries": 0,
            **asked,
        }

    async def _events(self, stream: Any) -> AsyncGenerator[Any, None]:
        async for event in stream:
            ends = event.choices and event.choices[0].finish_reason
            if ends and not (stream.received_finish_reason or stream.intermittent_finish_reason):
                # LiteLLM says "stop" of a stream that broke off.
                raise ProviderError(
                    f"the provider of model '{self._config.name}' broke off its answer"
                )
            yield event

    def _translate(self, error: Exception) -> LLMError | None:
        if isinstance(error, exceptions.MidStreamFallbackError) and error.original_exception:
            return self._translate(error.original_exception)
        if _is_failure_of(error, *_NOT_FETCHED):
            return not_fetched(self._config.name, "messages")
        for cause in causes(error):
            if isinstance(cause, ImportError):  # of which `check_libraries` doesn't know
                return ProviderRejected(
                    f"model '{self._config.name}' can't be called: {cause}; the operator must "
                    "install it where the model's replica runs"
                )
        kind = _kind(error)
        return None if kind is None else self._explain(kind, error)

    def _explain(self, kind: type[LLMError], error: Exception) -> LLMError:
        return explain(
            kind,
            self._config.name,
            _reason(error),
            secret=self._key,
            headers=_headers(error),
        )


def _check_provider(config: LiteLLMConfig) -> None:
    known = {str(getattr(name, "value", name)) for name in litellm.provider_list}
    known |= set(JSONProviderRegistry.list_providers())
    if config.provider not in known:
        raise ValueError(f"model '{config.name}': {unknown_provider(config.backend, known)}")


def _wake() -> None:
    """Imports what LiteLLM otherwise imports at the first request, and for `tools` alone: there it
    takes a second of the event loop, and what is missing would fail each request by itself."""
    tool = {"type": "function", "function": {"name": "one", "parameters": {"type": "object"}}}
    stream = litellm.completion(
        model="openai/none",
        messages=[{"role": "user", "content": "Hi"}],
        tools=[tool],
        mock_response="Hi",  # nothing is sent
        stream=True,
    )
    require(stream, "received_finish_reason", "intermittent_finish_reason")


def _lost(model: str, provider: str) -> Iterator[str]:
    """What LiteLLM takes for a provider and then doesn't send, found by asking its own mapping."""
    tools = [
        {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
        for name in ("one", "two")
    ]
    schema = {"name": "answer", "schema": {"type": "object", "properties": {}}}
    probes: list[tuple[str, Any]] = [
        ("temperature", 0.5),
        ("top_p", 0.5),
        ("max_tokens", 5),
        ("max_completion_tokens", 5),
        ("stop", ["end"]),
        ("seed", 5),
        ("frequency_penalty", 0.5),
        ("presence_penalty", 0.5),
        ("logit_bias", {"5": 1.0}),
        ("logprobs", True),
        ("top_logprobs", 5),
        ("tools", tools),
        ("tool_choice", "none"),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "one"}}),
        ("parallel_tool_calls", False),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": schema}),
        ("reasoning_effort", "low"),
        ("verbosity", "low"),
    ]
    for name, value in probes:
        beside = {"tools": tools} if name in ("tool_choice", "parallel_tool_calls") else {}
        try:
            sent = _mapped(model, provider, beside | {name: value})
            if sent == _mapped(model, provider, beside):
                yield _what(name, value)
        except exceptions.UnsupportedParamsError:
            continue  # not lost: it will be refused again when it is asked for


def _goes_on(model: str, provider: str) -> bool:
    """Whether LiteLLM's list says that a model goes on with an answer that has been begun."""
    try:
        info = litellm.get_model_info(model, custom_llm_provider=provider)
    except Exception:  # noqa: BLE001 - LiteLLM says by a plain Exception that it is not listed
        return False
    return bool(info.get("supports_assistant_prefill"))


def _mapped(model: str, provider: str, parameters: dict[str, Any]) -> str:
    # As text, for LiteLLM changes in place what it gets.
    return str(litellm.get_optional_params(model, custom_llm_provider=provider, **parameters))


def _what(name: str, value: Any) -> str:
    """How a parameter is told from one that may be supported where this is not."""
    if name == "tool_choice":
        return f"{name}={'named' if isinstance(value, dict) else value}"
    if name == "response_format":
        return f"{name}={value['type']}"
    return f"{name}={str(value).lower()}" if isinstance(value, bool) else name


def _kind(error: Exception) -> type[LLMError] | None:
    """The class of ours for an error after the request was sent, or one of the operator's.

    LiteLLM's own classes are guessed from the text, in which a caller may have put any word. So
    what the provider's status says goes before them.
    """
    kind = look_up(ERRORS, error)
    status = _status(error)
    if status is not None:
        return _kind_by_status(status, kind, error)
    for cause in causes(error):
        if isinstance(cause, _TIMEOUTS):
            return DeadlineExceeded
        if isinstance(cause, _UNREACHABLE) and not _is_litellms(cause):
            return Unreachable
    for cause in causes(error):
        if isinstance(cause, OpenAIError):
            # An error event in a stream that LiteLLM reads itself: its status is the event's code.
            return by_status(cause.status_code, _said(error))
    # Without a status nobody has said that the request is bad.
    return ProviderError if kind is not None and issubclass(kind, InvalidRequest) else kind


def _kind_by_status(status: int, kind: type[LLMError] | None, error: Exception) -> type[LLMError]:
    by = by_status(status, _said(error))
    if by in (InvalidRequest, RequestTooLarge):
        if kind is ContextLengthExceeded or _is_too_long(error):
            return ContextLengthExceeded
        if kind is ContentFiltered:
            return ContentFiltered
    return by


def _status(error: Exception) -> int | None:
    """The status that the provider gave, as its response or within the stream."""
    for cause in causes(error):
        if isinstance(cause, httpx.HTTPStatusError):
            return cause.response.status_code
        if isinstance(cause, openai.APIStatusError) and not _is_litellms(cause):
            return cause.status_code
        if type(cause) is openai.APIError and isinstance(cause.code, int):
            return cause.code  # an error event in the stream of a vLLM server
    return None


def _is_litellms(error: BaseException) -> bool:
    """Whether an error is LiteLLM's own, which derive from the OpenAI client's."""
    return type(error).__module__.partition(".")[0] == "litellm"


def _is_failure_of(error: Exception, *kinds: type[Exception]) -> bool:
    return any(isinstance(cause, kinds) for cause in causes(error))


def _is_too_long(error: Exception) -> bool:
    # Where a provider's answer isn't kept as JSON, only its text is left. LiteLLM keeps a list of
    # what providers say, but doesn't look there for every one of them.
    code = "context_length_exceeded"
    return (
        getattr(error, "code", None) == code
        or code in str(error)
        or bool(ExceptionCheckers.is_error_str_context_window_exceeded(_reason(error)))
    )


def _reason(error: Exception) -> str:
    """What the provider said, without what LiteLLM puts before and around it."""
    said = _said(error)
    return str(said["message"]) if said and "message" in said else _message(error)


def _said(error: Exception) -> Mapping[str, Any] | None:
    """The `error` object of the provider's answer, where it is JSON in OpenAI's or Google's way."""
    for cause in causes(error):
        if isinstance(body := getattr(cause, "body", None), dict):
            return body
    try:
        said = json.loads(_message(error))
        said = (said[0] if isinstance(said, list) else said)["error"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _message(error: Exception) -> str:
    message = str(getattr(error, "message", error))
    message = message.partition("Traceback (most recent call last)")[0].strip()
    message = re.sub(r"^((litellm\.)?\w+(Error|Exception)( - |: | ))+", "", message)
    return re.sub(r"^b'(.*)'$", r"\1", message).replace("\\'", "'")  # as Python prints bytes


def _headers(error: Exception) -> Mapping[str, str] | None:
    response = getattr(error, "response", None)
    headers = getattr(error, "litellm_response_headers", None)
    return headers or getattr(response, "headers", None)
