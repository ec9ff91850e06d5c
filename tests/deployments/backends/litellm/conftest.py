"""Fixtures of the tests of LiteLLM's providers."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_providers import SECRET
from litellm_support import FORMATS, Connect

from deployments.backends.litellm.backend import LiteLLMBackend
from deployments.backends.litellm.config import LiteLLMConfig


@pytest.fixture
async def connect(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Makes backends for a provider at a URL; they are closed when the test ends."""
    monkeypatch.setenv("TEST_KEY", SECRET)
    made: list[LiteLLMBackend] = []

    def connect(backend: str, url: str | None, **fields: Any) -> LiteLLMBackend:
        given: dict[str, Any] = {
            "name": "ours",
            "backend": backend,
            "api_key": "${TEST_KEY}",
            "hostname": url,
        }
        given["timeout"] = 120  # seconds; the machine of the tests may be slow
        made.append(LiteLLMBackend(LiteLLMConfig.model_validate(given | fields)))
        return made[-1]

    yield connect
    for backend in made:
        await backend.aclose()


@pytest.fixture
def connect_format(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Makes a backend for one of `FORMATS`, with the credentials that it needs."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")  # from Amazon's own manual
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")

    def connect_format(provider: str, url: str, **fields: Any) -> LiteLLMBackend:
        key = {"api_key": None} if provider == "bedrock" else {}
        return connect(provider, url, model=FORMATS[provider], **key, **fields)

    return connect_format
