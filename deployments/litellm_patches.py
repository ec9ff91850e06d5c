"""What LiteLLM does otherwise than its callers here need, put right in its own code."""

import litellm
from litellm.litellm_core_utils import url_utils
from litellm.llms.base_llm.base_model_iterator import BaseModelResponseIterator
from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import VertexGeminiConfig
from litellm.types.utils import GenericStreamingChunk, ModelResponseStream

from deployments.internals import replace, require


def patch() -> None:
    """Puts it all right, once for the process.

    Raises:
        RuntimeError: LiteLLM has changed, so that something would not be put right.
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
    """In the place of what LiteLLM asks before it fetches a caller's URL: its own switch for images
    leaves out Bedrock's and those whose tokens it counts itself."""
    raise url_utils.SSRFError("nothing is fetched here")


def _read_line(
    iterator: BaseModelResponseIterator, str_line: str
) -> GenericStreamingChunk | ModelResponseStream:
    """In the place of what reads a line of a stream, which takes every line with "[DONE]" in it,
    also within the answer's text, for an end with the finish reason "stop"."""
    chunk = iterator._string_to_dict_parser(str_line)
    if chunk:
        return iterator.chunk_parser(chunk)
    return GenericStreamingChunk(
        text="", is_finished=False, finish_reason="", usage=None, index=0, tool_use=None
    )


_finish_reason = VertexGeminiConfig._check_finish_reason


def _gemini_finish_reason(message: object, finish_reason: str | None) -> str | None:
    """In the place of what says "stop" of each piece of Gemini's that has no finish reason."""
    return None if finish_reason is None else _finish_reason(message, finish_reason)
