"""Requests in the form that vLLM and SGLang take, and what their refusals mean."""

from typing import Any

from deployments.backends.tool_names import ToolNames
from deployments.contract import ChatRequest
from deployments.errors import ContextLengthExceeded, InvalidRequest, LLMError
from deployments.request import DESCRIPTIVE

# Both servers honour these; they ignore fields that they don't know, such as `verbosity`.
# https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html
# https://docs.sglang.ai/basic_usage/openai_api_completions.html
SUPPORTED = frozenset(
    "temperature top_p top_k min_p max_tokens max_completion_tokens stop seed frequency_penalty "
    "presence_penalty repetition_penalty logit_bias logprobs top_logprobs tools tool_choice "
    "parallel_tool_calls response_format reasoning_effort chat_template_kwargs "
    "continue_final_message ignore_eos".split()
)


def body(
    request: ChatRequest, names: ToolNames, *, model: str, stream: bool = True
) -> dict[str, Any]:
    """The body of a chat completion.

    Args:
        request: what is asked; its parameters are among `SUPPORTED`.
        names: the names of its tools there.
        model: the model's name there.
        stream: whether the answer is to come as a stream.
    """
    asked = request.parameters()
    if request.max_completion_tokens is not None:
        asked.pop("max_tokens", None)  # OpenAI's older name for it
    if request.continue_final_message:
        asked["add_generation_prompt"] = False  # which both servers require with it
    if request.tools:
        asked["tools"] = names.tools(request)
    if request.tool_choice is not None:
        asked["tool_choice"] = names.tool_choice(request)
    return {
        "model": model,
        "messages": [_known_role(message) for message in names.messages(request)],
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
        **{name: value for name, value in asked.items() if name not in DESCRIPTIVE},
    }


def refusal(code: object, param: str | None, reason: str) -> type[LLMError]:
    """Our class for a request that the server calls bad, unless its moderation refused it.

    Args:
        code: of the error's body.
        param: of the error's body, in which vLLM names what was too long.
        reason: the error's message.
    """
    if code == "context_length_exceeded" or param in ("input_tokens", "input_text"):
        return ContextLengthExceeded
    return ContextLengthExceeded if _sglang_says_too_long(reason) else InvalidRequest


def _known_role(message: dict[str, Any]) -> dict[str, Any]:
    """A developer message as the older system message, which every chat template knows."""
    return {**message, "role": "system"} if message["role"] == "developer" else message


def _sglang_says_too_long(reason: str) -> bool:
    # SGLang has no code for a prompt that is too long (`TokenizerManager._validate_one_request`).
    return (
        "is longer than the model's context length" in reason
        or "exceeds the model's maximum context length" in reason
    )
