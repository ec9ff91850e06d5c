"""Fixtures of the tests of vLLM and SGLang servers."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fake_providers import SECRET

from deployments.backends.openai_endpoint.backend import OpenAIBackend
from deployments.backends.openai_endpoint.config import EndpointConfig

Connect = Callable[..., OpenAIBackend]


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Makes backends for a URL; they are closed when the test ends."""
    monkeypatch.setenv("TEST_KEY", SECRET)
    made: list[OpenAIBackend] = []

    def connect(url: str, **fields: Any) -> OpenAIBackend:
        given: dict[str, Any] = {
            "name": "ours",
            "backend": "vllm",
            "api_key": "${TEST_KEY}",
            "hostname": url,
        }
        given["timeout"] = 120  # seconds; the machine of the tests may be slow
        made.append(OpenAIBackend(EndpointConfig.model_validate(given | fields)))
        return made[-1]

    yield connect
    for backend in made:
        await backend.aclose()
