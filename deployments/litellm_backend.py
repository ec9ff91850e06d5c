"""Answers by any provider that LiteLLM knows."""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
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
from litellm.llms.openai_like.json_loader import JSONProviderRegistry

from deployments.config import LiteLLMConfig
from deployments.contract import DESCRIPTIVE, ChatRequest, Chunk, not_fetched
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
    UnsupportedParameter,
)
from deployments.litellm_catalogue import unknown_provider
from deployments.openai_chunks import read
from deployments.provider_errors import by_status, explain, look_up, translated
from deployments.tool_names import ToolNames


def _fetch_nothing(url: str) -> tuple[str, str]:
    """In the place of what LiteLLM asks before it fetches a caller's URL: its own switch, above,
    leaves out Bedrock's images and those whose tokens it counts itself."""
    raise url_utils.SSRFError("nothing is fetched here")


litellm.suppress_debug_info = True
litellm.telemetry = False
url_utils.validate_url = _fetch_nothing
litellm.drop_params = False  # what a provider doesn't do is an error, never left out in silence

# What providers take beyond LiteLLM's own list of OpenAI's parameters.
_BEYOND_OPENAI: Mapping[str, frozenset[str]] = {
    "hosted_vllm": frozenset(
        {"top_k", "min_p", "repetition_penalty", "chat_template_kwargs", "continue_final_message"}
    ),
    "anthropic": frozenset({"top_k"}),
    "gemini": frozenset({"top_k"}),
    "ollama_chat": frozenset({"top_k", "min_p"}),
}
# What LiteLLM takes and sends as something else: Ollama's `repeat_penalty` is no such penalty.
_MISTAKEN: Mapping[str, frozenset[str]] = {"ollama_chat": frozenset({"frequency_penalty"})}

# These ask for what every provider does anyway, so they are not sent.
_DEFAULTS: Mapping[str, Any] = {
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "response_format": {"type": "text"},
    "logprobs": False,
    "continue_final_message": False,
}

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


class LiteLLMBackend:
    """A model of a provider that LiteLLM knows; its client pools last as long as the replica.

    Without `api_key`, LiteLLM looks for one where the provider's own client does (for OpenAI, in
    `OPENAI_API_KEY`). Where a provider doesn't report usage, LiteLLM counts the tokens. For some
    providers LiteLLM takes the stream's `[DONE]` for a finish reason "stop" and leaves out events
    that are no JSON; a stream that breaks off without `[DONE]` is an error with all of them.
    """

    def __init__(self, config: LiteLLMConfig) -> None:
        _check_provider(config)
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
        self._lost = frozenset(_lost(model, config.provider))

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` as a stream of chunks."""
        request = self._honourable(request)
        names = ToolNames.of(request)
        thinking = self._config.thinking_seconds(request.reasoning_effort)
        patience = max(self._config.timeout, thinking)
        with translated(self._translate):
            async with asyncio.timeout(patience):
                call = self._call(request, names) | {"timeout": patience}
                stream = await litellm.acompletion(**call)
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

    async def check_health(self) -> None:
        """Nothing of this replica can break for good, and asking the provider would cost."""

    async def aclose(self) -> None:
        """Closes LiteLLM's pools, which are the process's."""
        await litellm.close_litellm_async_clients()

    def _honourable(self, request: ChatRequest) -> ChatRequest:
        """The request without what asks for nothing.

        Raises:
            UnsupportedParameter: for what the provider doesn't do or LiteLLM would lose.
        """
        asked = request.parameters()
        left_out: dict[str, Any] = {
            name: None for name, default in _DEFAULTS.items() if asked.get(name) == default
        }
        if request.tool_choice == "none" and "tool_choice=none" in self._lost:
            left_out = {**left_out, "tool_choice": None, "tools": None}  # comes to the same
        request = request.model_copy(update=left_out)
        request.require(self._supported | {"max_tokens", "max_completion_tokens"})
        for name, value in request.parameters().items():
            if (what := _what(name, value)) in self._lost and name not in DESCRIPTIVE:
                raise UnsupportedParameter(
                    f"model '{request.model}' does not support {what}; leave it out or ask "
                    "another model",
                    param=name,
                )
        return request

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
        if any(isinstance(cause, _NOT_FETCHED) for cause in _causes(error)):
            return not_fetched(self._config.name, "messages")
        kind = _kind(error)
        if kind is None:
            return None
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
    kind = look_up(ERRORS, error)
    if kind is ProviderError:
        return _kind_of_failure(error)
    if kind is InvalidRequest and _is_too_long(error):
        return ContextLengthExceeded
    if kind is InvalidRequest and getattr(error, "code", None) == "content_filter":
        return ContentFiltered  # Azure's code, which LiteLLM doesn't look for
    return kind


def _kind_of_failure(error: Exception) -> type[LLMError]:
    for cause in _causes(error):
        if isinstance(cause, _TIMEOUTS):
            return DeadlineExceeded
        if isinstance(cause, _UNREACHABLE) and not isinstance(cause, exceptions.APIConnectionError):
            return Unreachable
        if type(cause) is openai.APIError and isinstance(cause.code, int):
            return by_status(cause.code)  # an error event in the stream of a vLLM server
    status = getattr(error, "status_code", None)
    return by_status(status) if isinstance(status, int) else ProviderError


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_too_long(error: Exception) -> bool:
    # Where a provider's answer isn't kept as JSON, only its text is left. LiteLLM keeps a list of
    # what providers say, but doesn't look there for every one of them.
    code = "context_length_exceeded"
    checkers = litellm.litellm_core_utils.exception_mapping_utils.ExceptionCheckers
    return (
        getattr(error, "code", None) == code
        or code in str(error)
        or bool(checkers.is_error_str_context_window_exceeded(_reason(error)))
    )


def _reason(error: Exception) -> str:
    """What the provider said, without what LiteLLM puts before and around it."""
    message = str(getattr(error, "message", error))
    message = message.partition("Traceback (most recent call last)")[0].strip()
    message = re.sub(r"^((litellm\.)?\w+(Error|Exception)(: | - ))+", "", message)
    message = re.sub(r"^b'(.*)'$", r"\1", message).replace("\\'", "'")  # as Python prints bytes
    try:
        return str(json.loads(message)["error"]["message"])
    except (ValueError, LookupError, TypeError):  # not an error in OpenAI's format
        return message


def _headers(error: Exception) -> Mapping[str, str] | None:
    response = getattr(error, "response", None)
    headers = getattr(error, "litellm_response_headers", None)
    return headers or getattr(response, "headers", None)
