"""Asks one model of every provider that LiteLLM knows, and prints which lack a Python module.

tests/server/test_plain_install.py runs it in an environment that holds nothing but what users get.
"""

import asyncio
import os
import socket
from typing import Any

from deployments.backends.litellm.backend import LiteLLMBackend
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.contract import ChatRequest
from deployments.errors import LLMError, ProviderRejected

# `vllm` is a backend of our own; the others open a browser to sign in.
LEFT_OUT = {"vllm", "github_copilot", "chatgpt"}
MODELS = {
    "bedrock": ["anthropic.claude-3-haiku-20240307-v1:0"],
    "scaledown": ["summarize"],
    "vertex_ai": ["gemini-2.5-flash", "claude-sonnet-4-5"],
}
VARIABLES = {
    "KEY": "sk-test",
    "AWS_ACCESS_KEY_ID": "a",
    "AWS_SECRET_ACCESS_KEY": "s",
    "AWS_REGION_NAME": "eu-west-1",
    "NO_GCE_CHECK": "true",
}
TOOL = {"type": "function", "function": {"name": "one", "parameters": {"type": "object"}}}
WEBP = "data:image/webp;base64,UklGRiQAAABXRUJQVlA4IA=="  # LiteLLM converts it for some providers
IMAGE = [{"type": "image_url", "image_url": {"url": WEBP}}]
REQUESTS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Hi"}], "tools": [TOOL]},
    {"messages": [{"role": "user", "content": IMAGE}]},
]


async def main() -> None:
    import litellm  # which deployments.backends.litellm has set up

    for provider in sorted({str(getattr(p, "value", p)) for p in litellm.provider_list} - LEFT_OUT):
        for model in MODELS.get(provider, ["m"]):
            config = {"name": provider, "backend": provider, "model": model, "timeout": 5}
            config |= {"hostname": "http://127.0.0.1:9", "api_key": "${KEY}"}
            backend = LiteLLMBackend(LiteLLMConfig.model_validate(config))
            for fields in REQUESTS:
                request = ChatRequest.model_validate({"model": provider, **fields})
                try:
                    async for _ in backend.chat(request):
                        pass
                except ProviderRejected as error:
                    if "No module" in error.message:
                        print(error.message)
                except LLMError:
                    pass  # nothing answers there
    print("all asked")


def unreachable(*address: Any, **options: Any) -> Any:
    """In the place of the resolver, so that no provider's own address is called."""
    raise socket.gaierror("the network is not for tests")


if __name__ == "__main__":
    os.environ |= VARIABLES
    socket.getaddrinfo = unreachable
    asyncio.run(main())
    os._exit(0)  # without LiteLLM's threads
