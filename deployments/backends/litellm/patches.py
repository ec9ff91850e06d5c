"""Corrections of LiteLLM's own code, made once for the process, and the internals that we use.

Each has its reason. `patch` fails if this version of LiteLLM has no such part.
"""

import json
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

import httpx
import litellm
import openai
from litellm import main, utils
from litellm.litellm_core_utils import url_utils
from litellm.litellm_core_utils.exception_mapping_utils import ExceptionCheckers
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.litellm_core_utils.prompt_templates.factory import THOUGHT_SIGNATURE_SEPARATOR
from litellm.llms.anthropic.chat import handler as anthropic
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.openai.chat.gpt_transformation import OpenAIChatCompletionStreamingHandler
from litellm.llms.openai.openai import OpenAIChatCompletion
from litellm.llms.openai_like.json_loader import JSONProviderRegistry
from litellm.llms.openrouter.chat.transformation import OpenRouterChatCompletionStreamingHandler
from litellm.llms.vertex_ai.gemini import vertex_and_google_ai_studio_gemini as gemini
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig
from litellm.types.utils import GenericStreamingChunk, ModelResponseStream

from deployments.internals import replace, require

# What to call when a request has been written and is about to be sent.
before_sending: ContextVar[Callable[[], None] | None] = ContextVar("before_sending", default=None)


def patch() -> None:
    """Corrects LiteLLM.

    Raises:
        RuntimeError: this version of LiteLLM has nothing to correct where we expect it.
    """
    # It prints a banner for models that it doesn't know.
    replace(litellm, "suppress_debug_info", True)
    # A parameter that a provider doesn't support is an error, never dropped silently.
    replace(litellm, "drop_params", False)
    replace(litellm, "user_url_validation", True)
    replace(url_utils, "validate_url", _fetch_nothing)
    replace(OpenAIChatCompletion, "_get_openai_client", _client_without_retries)
    require(BaseModelResponseIterator, "_string_to_dict_parser", "chunk_parser")
    replace(BaseModelResponseIterator, "_handle_string_chunk", _read_line)
    replace(VertexGeminiConfig, "_check_finish_reason", staticmethod(_gemini_finish_reason))
    replace(Logging, "pre_call", _pre_call_with_hook)
    require(ExceptionCheckers, "is_error_str_context_window_exceeded")
    require(JSONProviderRegistry, "list_providers")
    replace(main, "get_model_info_helper", _model_info_once)
    replace(httpx.Cookies, "extract_cookies", _cookies_if_any)
    require(openai.AsyncOpenAI, "_prepare_url", "_make_status_error_from_response")
    require(utils, "_is_gemini_model", "_remove_thought_signatures_from_messages")


def about_to_send() -> None:
    """Calls what `before_sending` holds."""
    if hook := before_sending.get():
        hook()


def without_signatures(messages: list[Any], provider: str, model: str) -> list[Any]:
    """The messages without what Gemini adds to the ids of calls, which is too long for others."""
    if utils._is_gemini_model(model, provider):
        return messages
    return list(
        utils._remove_thought_signatures_from_messages(messages, THOUGHT_SIGNATURE_SEPARATOR)
    )


@cache
def providers() -> frozenset[str]:
    """The names of all providers that LiteLLM can call."""
    built_in = {str(getattr(name, "value", name)) for name in litellm.provider_list}
    return frozenset(built_in | set(JSONProviderRegistry.list_providers()))


def says_too_long(reason: str) -> bool:
    """Whether a provider's words are among those that LiteLLM knows for a prompt that is too long.
    It doesn't look there for all providers."""
    return bool(ExceptionCheckers.is_error_str_context_window_exceeded(reason))


def check_stream(stream: Any) -> None:
    """Checks one of LiteLLM's streams, whose attributes exist only once it is made.

    Raises:
        RuntimeError: it lacks what `has_finish_reason` reads.
    """
    require(stream, "received_finish_reason", "intermittent_finish_reason")


def has_finish_reason(stream: Any) -> bool:
    """Whether the provider gave one. LiteLLM makes up a "stop" for a stream that broke off."""
    return bool(stream.received_finish_reason or stream.intermittent_finish_reason)


def is_openais(source: Any) -> bool:
    """Whether a stream within LiteLLM's is one of the openai library's, whose events are written as
    the standard says, and each is JSON."""
    return isinstance(source, OpenAIStream | openai.AsyncStream)


def response_in_openais_format(source: Any) -> httpx.Response | None:
    """The response that a stream within LiteLLM's reads, if its events have OpenAI's own form."""
    if is_openais(source):
        response = source.response
        return response if isinstance(response, httpx.Response) else None
    if (
        getattr(type(source), "chunk_parser", None)
        is OpenAIChatCompletionStreamingHandler.chunk_parser
    ):
        response = source.http_response
        return response if isinstance(response, httpx.Response) else None
    return None


def is_translator(source: Any) -> bool:
    """Whether a stream within LiteLLM's gives complete events: those of OpenAI's shape, and its
    finish reason only if the provider gave one."""
    return isinstance(source, _TRANSLATORS)


_TRANSLATORS = (
    anthropic.ModelResponseIterator,
    gemini.ModelResponseIterator,
    OpenAIChatCompletionStreamingHandler,
    OpenRouterChatCompletionStreamingHandler,
)


def _fetch_nothing(url: str) -> tuple[str, str]:
    """Replaces the check of a caller's URL before LiteLLM fetches it. The switch for images,
    MAX_IMAGE_URL_DOWNLOAD_SIZE_MB, misses Bedrock's and those whose tokens LiteLLM counts."""
    raise url_utils.SSRFError("nothing is fetched here")


_get_openai_client = OpenAIChatCompletion._get_openai_client


def _client_without_retries(handler: OpenAIChatCompletion, *args: Any, **kwargs: Any) -> Any:
    """Makes a client that asks once. For some providers LiteLLM drops our `max_retries: 0`, and the
    client asks three times, waiting as long as `Retry-After` says."""
    client = _get_openai_client(handler, *args, **kwargs | {"max_retries": 0})
    if isinstance(client, openai.AsyncOpenAI) and not isinstance(client.chat, _Chat):
        client.__dict__["chat"] = _Chat(client)
    return client


class _Chat:
    """Replaces the client's `chat`, whose `completions.with_raw_response.create` LiteLLM calls.
    That looks up the type of each field of a request, which takes as long as sending it."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client
        self._as_usual = client.chat.completions.with_raw_response.create
        self._url = client._prepare_url("/chat/completions")
        headers = {"Authorization": f"Bearer {client.api_key}", **client.default_headers}
        self._headers = {name: value for name, value in headers.items() if isinstance(value, str)}
        # With others, the client does more than to send a request with a key.
        self._is_plain = (
            type(client) is openai.AsyncOpenAI
            and bool(client.api_key)
            and client._workload_identity_auth is None
            and client._provider_runtime is None
            and not client.default_query
        )
        self.completions = self
        self.with_raw_response = self

    async def create(self, **data: Any) -> Any:
        """Sends a request, and returns its response."""
        if not self._is_plain or not data.get("stream") or data.get("extra_query"):
            return await self._as_usual(**data)
        timeout = data.pop("timeout")
        headers = self._headers | (data.pop("extra_headers", None) or {})
        data |= data.pop("extra_body", None) or {}
        request = httpx.Request(
            "POST",
            self._url,
            headers=headers,
            content=json.dumps(data, separators=(",", ":"), allow_nan=False),
            extensions={"timeout": httpx.Timeout(timeout).as_dict()},
        )
        try:
            response = await self._client._client.send(request, stream=True)
            if response.is_error:
                await response.aread()
        except httpx.TimeoutException as error:
            raise openai.APITimeoutError(request=request) from error
        except Exception as error:
            raise openai.APIConnectionError(request=request) from error
        if response.is_error:
            raise self._client._make_status_error_from_response(response)
        return OpenAIStream(response)


class OpenAIStream:
    """A stream of OpenAI's events that has begun, as the openai library's `AsyncStream`."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.headers: dict[str, str] = {}  # which LiteLLM only copies

    def parse(self) -> "OpenAIStream":
        """The stream of a response, which is this one."""
        return self

    def __aiter__(self) -> "OpenAIStream":
        return self  # as LiteLLM asks; `Events` reads the response

    async def aclose(self) -> None:
        """Closes the response."""
        await self.response.aclose()


_model_info = main.get_model_info_helper


@lru_cache(maxsize=10_000)
def _known_info(model: str, provider: str | None) -> Mapping[str, Any] | Exception:
    try:
        return MappingProxyType(_model_info(model=model, custom_llm_provider=provider))
    except Exception as error:  # noqa: BLE001 - LiteLLM raises one for an unlisted model
        return error.with_traceback(None)


def _model_info_once(
    model: str, custom_llm_provider: str | None = None, **others: Any
) -> dict[str, Any]:
    """Replaces the look-up of a model, which LiteLLM repeats twice for each request."""
    if others:
        return dict(_model_info(model=model, custom_llm_provider=custom_llm_provider, **others))
    info = _known_info(model, custom_llm_provider)
    if isinstance(info, Exception):
        raise ValueError(str(info))
    return dict(info)  # LiteLLM changes it


_extract_cookies = httpx.Cookies.extract_cookies


def _cookies_if_any(cookies: httpx.Cookies, response: httpx.Response) -> None:
    """Replaces the look for cookies in a response, which takes long where there is none."""
    if "set-cookie" in response.headers:
        _extract_cookies(cookies, response)


def _read_line(
    iterator: BaseModelResponseIterator, str_line: str
) -> GenericStreamingChunk | ModelResponseStream:
    """Replaces the parser of a stream's lines, which takes any line that contains "[DONE]", even in
    the answer's text, for an end with the finish reason "stop"."""
    chunk = iterator._string_to_dict_parser(str_line)
    if chunk:
        return iterator.chunk_parser(chunk)
    return GenericStreamingChunk(
        text="", is_finished=False, finish_reason="", usage=None, index=0, tool_use=None
    )


_check_finish_reason = VertexGeminiConfig._check_finish_reason


def _gemini_finish_reason(message: object, finish_reason: str | None) -> str | None:
    """Replaces the mapping of Gemini's finish reasons, which maps a missing one to "stop"."""
    return None if finish_reason is None else _check_finish_reason(message, finish_reason)


_pre_call = Logging.pre_call


def _pre_call_with_hook(logging: Logging, *args: Any, **kwargs: Any) -> Any:
    """Adds `before_sending` to what LiteLLM calls before each request. Its own `logger_fn` is not
    called where it answers a chat completion through the Responses API.

    Should LiteLLM no longer call this, test_untranslatable.py fails.
    """
    result = _pre_call(logging, *args, **kwargs)
    about_to_send()
    return result
