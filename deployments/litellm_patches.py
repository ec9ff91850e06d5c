"""Settings and corrections of LiteLLM's own code, made once for the process."""

import litellm
from litellm.litellm_core_utils import url_utils
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig
from litellm.types.utils import GenericStreamingChunk, ModelResponseStream

from deployments.internals import replace, require


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
    require(BaseModelResponseIterator, "_string_to_dict_parser", "chunk_parser")
    replace(BaseModelResponseIterator, "_handle_string_chunk", _read_line)
    replace(VertexGeminiConfig, "_check_finish_reason", staticmethod(_gemini_finish_reason))


def _fetch_nothing(url: str) -> tuple[str, str]:
    """Replaces the check of a caller's URL before LiteLLM fetches it. The switch for images,
    MAX_IMAGE_URL_DOWNLOAD_SIZE_MB, misses Bedrock's and those whose tokens LiteLLM counts."""
    raise url_utils.SSRFError("nothing is fetched here")


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
