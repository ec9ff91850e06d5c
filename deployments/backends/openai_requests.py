"""A request in the form that vLLM and SGLang take, and what they say when they refuse it."""

from typing import Any

from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest
from deployments.errors import ContentFiltered, ContextLengthExceeded, InvalidRequest, LLMError
from deployments.request import DESCRIPTIVE

# Both servers honour these; a field that they don't know, such as `verbosity`, they pass over.
# https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html
# https://docs.sglang.ai/basic_usage/openai_api_completions.html
SUPPORTED = frozenset(
    "temperature top_p top_k min_p max_tokens max_completion_tokens stop seed frequency_penalty "
    "presence_penalty repetition_penalty logit_bias logprobs top_logprobs tools tool_choice "
    "parallel_tool_calls response_format reasoning_effort chat_template_kwargs "
    "continue_final_message ignore_eos".split()
)


def body(request: ChatRequest, names: ToolNames, *, model: str) -> dict[str, Any]:
    """The body of a streamed chat completion.

    Args:
        request: what is asked; its parameters are among `SUPPORTED`.
        names: how its tools are called there.
        model: the model's name there.
    """
    asked = request.parameters()
    if request.max_completion_tokens is not None:
        asked.pop("max_tokens", None)  # OpenAI's older name for it
    if request.continue_final_message:
        asked["add_generation_prompt"] = False  # they want it said
    if request.tools:
        asked["tools"] = names.tools(request)
    if request.tool_choice is not None:
        asked["tool_choice"] = names.tool_choice(request)
    return {
        "model": model,
        "messages": [_known_role(message) for message in names.messages(request)],
        "stream": True,
        "stream_options": {"include_usage": True},
        **{name: value for name, value in asked.items() if name not in DESCRIPTIVE},
    }


def refusal(code: object, param: str | None, reason: str) -> type[LLMError]:
    """The error for a request that was called bad: `code` and `param` are of the error's body."""
    # vLLM names what was too long in `param`.
    if code == "context_length_exceeded" or param in ("input_tokens", "input_text"):
        return ContextLengthExceeded
    if code in ("content_filter", "content_policy_violation"):
        return ContentFiltered
    return ContextLengthExceeded if _sglang_says_too_long(reason) else InvalidRequest


def _known_role(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's newer name for the system message is unknown to most models' chat templates."""
    return {**message, "role": "system"} if message["role"] == "developer" else message


def _sglang_says_too_long(reason: str) -> bool:
    # SGLang gives a long prompt no code of its own (`TokenizerManager._validate_one_request`).
    return (
        "is longer than the model's context length" in reason
        or "exceeds the model's maximum context length" in reason
    )
