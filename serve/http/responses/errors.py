"""Errors of chats in the words of the Responses API."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from deployments.errors import LLMError

# The fields of a chat request that the Responses API calls otherwise, longer ones first.
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "response_format.json_schema": "text.format",
        "response_format": "text.format",
        "max_completion_tokens": "max_output_tokens",
        "reasoning_effort": "reasoning.effort",
        "verbosity": "text.verbosity",
        "logprobs": "top_logprobs",
    }
)
_FUNCTION = re.compile(r"(tools\.\d+)\.function\b")


def in_our_words(error: LLMError) -> LLMError:
    """The error, which names the fields that the caller has sent."""
    message, param = error.message, error.param
    if param is not None:
        error.param = _renamed(param)
        message = message.replace(param, error.param)
    for name, ours in _NAMES.items():
        message = re.sub(rf"'{re.escape(name)}([^']*)'", rf"'{ours}\1'", message)
    error.args = (message, *error.args[1:])
    return error


def _renamed(param: str) -> str:
    if param.partition(".")[0] == "messages":
        return "input"  # an item is no message: several may be one
    for name, ours in _NAMES.items():
        if param == name or param.startswith(f"{name}."):
            return ours + param.removeprefix(name)
    return _FUNCTION.sub(r"\1", param)
