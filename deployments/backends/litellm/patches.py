"""Corrections of LiteLLM's own code, made once for the process, and the internals that we use.

Each has its reason. `patch` fails if this version of LiteLLM has no such part.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from functools import cache, lru_cache
from io import IncrementalNewlineDecoder
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

from deployments.backends.litellm.openai_requests import Chat, OpenAIStream
from deployments.internals import replace, require

_MOST_CLIENTS = 10_000

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
    replace(httpx.Response, "aiter_lines", _lines)
    # It keeps 200 clients, one for each key and address, and makes the others again and again.
    replace(litellm.in_memory_llm_clients_cache, "max_size_in_memory", _MOST_CLIENTS)
    require(litellm.in_memory_llm_clients_cache, "cache_dict", "delete_cache")
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
        RuntimeError: it lacks what `has_finish_reason` or `Events` reads.
    """
    require(stream, "received_finish_reason", "intermittent_finish_reason", "completion_stream")
    require(stream, "fetch_stream")


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
    if isinstance(client, openai.AsyncOpenAI) and not isinstance(client.chat, Chat):
        client.__dict__["chat"] = Chat(client)
    return client


def forget_closed_clients() -> None:
    """Takes the openai library's clients out of LiteLLM's cache, which would give them out again
    after they were closed. Its own clients open again."""
    clients = litellm.in_memory_llm_clients_cache
    for key, client in list(clients.cache_dict.items()):
        if isinstance(client, openai.AsyncOpenAI):
            clients.delete_cache(key)


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


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Replaces the lines of a response, which for httpx also end at U+2028, U+0085 and their like.
    JSON may hold these as they are, and LiteLLM skips events that are cut in two."""
    ends = IncrementalNewlineDecoder(None, translate=True)
    line: list[str] = []
    async for text in response.aiter_text():
        first, *others = ends.decode(text).split("\n")
        line.append(first)
        for other in others:
            yield "".join(line)
            line = [other]
    line.append(ends.decode("", final=True))
    if last := "".join(line):
        yield last


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
