"""What the tests of LiteLLM's providers share."""

from collections.abc import Callable
from typing import Any

from asking import ask
from provider_formats import PLACE, WEATHER

from deployments.backends.litellm.backend import LiteLLMBackend
from deployments.contract import ChatRequest

Connect = Callable[..., LiteLLMBackend]

TIME = {"type": "function", "function": {"name": "weather__now", "parameters": PLACE}}
NAMED = {"type": "function", "function": {"name": "weather/now"}}

# Each wire format that LiteLLM writes itself, with a model that supports most of it.
FORMATS = {
    "openai": "gpt-4o",
    "hosted_vllm": "m",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-2.5-flash",
    "ollama": "llama",
    "bedrock": "amazon.nova-pro-v1:0",
}


def after_a_tool(**fields: Any) -> ChatRequest:
    """A request whose history has a call and its result."""
    function = {"name": "weather/now", "arguments": '{"city": "Rome", "days": 1}'}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is the weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    return ask(messages=messages, tools=[WEATHER, TIME], **fields)


def long_tool(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "long", "parameters": schema}}
