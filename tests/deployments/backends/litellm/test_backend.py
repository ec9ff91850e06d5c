"""Promise: a model is called by its provider's name, and an unknown provider is refused early."""

from typing import Any

import pytest
from litellm_support import Connect

from deployments.backends.litellm.backend import LiteLLMBackend
from deployments.backends.litellm.config import LiteLLMConfig


@pytest.mark.parametrize(
    ("backend", "model", "sent"),
    [
        ("openai", "gpt-4o", "openai/gpt-4o"),
        ("openai", "openai/gpt-4o", "openai/gpt-4o"),
        ("groq", "openai/gpt-oss-20b", "groq/openai/gpt-oss-20b"),
        ("google", "gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("google", "gemini/gemini-2.5-flash", "gemini/gemini-2.5-flash"),
        ("ollama", "llama3", "ollama_chat/llama3"),
        ("ollama", "ollama/llama3", "ollama_chat/llama3"),
    ],
)
def test_the_provider_prefix_is_added_once(backend: str, model: str, sent: str) -> None:
    assert LiteLLMConfig(name=model, backend=backend).litellm_model == sent


def test_a_provider_that_this_litellm_does_not_know_is_named(connect: Connect) -> None:
    with pytest.raises(
        ValueError, match="'ours': the installed version of LiteLLM has no provider 'opnai'"
    ):
        connect("opnai", None)


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"backend": "openai", "model": "gpt-4o-mini"}, 128_000),
        ({"backend": "google", "model": "gemini-2.5-flash"}, 1_048_576),
        ({"backend": "openai", "model": "gpt-4o-mini", "context_window": 5}, 5),
        ({"backend": "bedrock", "model": "anthropic.claude-3-5-sonnet-20241022-v2:0"}, 200_000),
        ({"backend": "openai", "model": "ours"}, None),
        # On one's own server, the name says nothing about the model.
        ({"backend": "hosted_vllm", "model": "gpt-4o-mini", "hostname": "http://h"}, None),
    ],
)
async def test_the_window_is_the_listed_one(fields: dict[str, Any], window: int | None) -> None:
    backend = LiteLLMBackend(LiteLLMConfig.model_validate({"name": "m", **fields}))
    assert await backend.context_window() == window
