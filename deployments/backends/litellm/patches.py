"""Settings and corrections of LiteLLM's own code, made once for the process."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import litellm
from litellm.litellm_core_utils import url_utils
from litellm.litellm_core_utils.litellm_logging import Logging
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.openai.openai import OpenAIChatCompletion
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig
from litellm.types.utils import GenericStreamingChunk, ModelResponseStream

from deployments.internals import replace, require

# What to call when a request has been written and is about to be sent.
leaving: ContextVar[Callable[[], None] | None] = ContextVar("leaving", default=None)


def patch() -> None:
    """Makes them.

    Raises:
        RuntimeError: this version of LiteLLM has nothing to correct where we expect it.
    """
    replace(litellm, "suppress_debug_info", True)
    # What a provider doesn't support is an error, never left out silently.
    replace(litellm, "drop_params", False)
    replace(litellm, "user_url_validation", True)
    replace(url_utils, "validate_url", _fetch_nothing)
    replace(OpenAIChatCompletion, "_get_openai_client", _once)
    require(BaseModelResponseIterator, "_string_to_dict_parser", "chunk_parser")
    replace(BaseModelResponseIterator, "_handle_string_chunk", _read_line)
    replace(VertexGeminiConfig, "_check_finish_reason", staticmethod(_gemini_finish_reason))
    replace(Logging, "pre_call", _about_to_send)


def _fetch_nothing(url: str) -> tuple[str, str]:
    """Replaces the check of a caller's URL before LiteLLM fetches it. The switch for images,
    MAX_IMAGE_URL_DOWNLOAD_SIZE_MB, misses Bedrock's and those whose tokens LiteLLM counts."""
    raise url_utils.SSRFError("nothing is fetched here")


_client = OpenAIChatCompletion._get_openai_client


def _once(handler: OpenAIChatCompletion, *args: Any, **kwargs: Any) -> Any:
    """Makes a client that asks once. For some providers LiteLLM drops our `max_retries: 0`, and the
    client asks three times, as late as `Retry-After` says."""
    return _client(handler, *args, **kwargs | {"max_retries": 0})


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


_finish_reason = VertexGeminiConfig._check_finish_reason


def _gemini_finish_reason(message: object, finish_reason: str | None) -> str | None:
    """Replaces the mapping of Gemini's finish reasons, which maps a missing one to "stop"."""
    return None if finish_reason is None else _finish_reason(message, finish_reason)


_pre_call = Logging.pre_call


def _about_to_send(logging: Logging, *args: Any, **kwargs: Any) -> Any:
    """Adds `leaving` to what is called before each request. LiteLLM's own `logger_fn` is not called
    where it answers a chat completion by the Responses API."""
    said = _pre_call(logging, *args, **kwargs)
    if call := leaving.get():
        call()
    return said
