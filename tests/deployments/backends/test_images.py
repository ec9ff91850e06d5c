"""Promise: no replica connects to the host of a caller's image URL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import litellm
import pytest
from fake_providers import DONE, SOME, STOP, serving, streaming, usage

from deployments.backends.litellm.backend import LiteLLMBackend
from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.vllm.backend import VLLMBackend
from deployments.backends.vllm.config import EngineConfig
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import LLMError, UnsupportedParameter


@pytest.fixture
async def elsewhere(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[str, list[str]]]:
    """An address to which nothing may connect, and the connections that were made."""
    callers: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers.append((await reader.readline()).decode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = "127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    # By itself, LiteLLM refuses private addresses only.
    monkeypatch.setattr(litellm, "user_url_allowed_hosts", [address])
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_REGION_NAME", "us-east-1")
    async with server:
        yield f"http://{address}/image.png", callers


def asking(url: str) -> ChatRequest:
    image = {"type": "image_url", "image_url": {"url": url, "detail": "high"}}
    return ChatRequest.model_validate(
        {"model": "ours", "messages": [{"role": "user", "content": [image]}]}
    )


async def answer(backend: Any, request: ChatRequest) -> Chunk:
    return merge([chunk async for chunk in backend.chat(request)])


def litellm_backend(backend: str, model: str, url: str | None) -> LiteLLMBackend:
    config = {"name": "ours", "backend": backend, "model": model, "hostname": url, "timeout": 20}
    return LiteLLMBackend(LiteLLMConfig.model_validate(config))


@pytest.mark.parametrize(
    ("backend", "model"),
    [
        ("gemini", "gemini-2.5-flash"),
        ("anthropic", "claude-haiku-4-5"),
        ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("bedrock", "converse/us.amazon.nova-lite-v1:0"),
    ],
)
async def test_an_image_that_litellm_would_fetch_is_refused(
    elsewhere: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, backend: str, model: str
) -> None:
    url, callers = elsewhere
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    with pytest.raises(UnsupportedParameter, match="nothing is fetched"):
        await answer(litellm_backend(backend, model, None), asking(url))
    assert callers == []


async def test_a_provider_that_accepts_urls_gets_the_url(
    elsewhere: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, callers = elsewhere
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with serving(streaming(SOME, STOP, usage(), DONE)) as fake:
        assert (await answer(litellm_backend("openai", "gpt-4o", fake.url), asking(url))).text
    assert fake.requests[0]["messages"][0]["content"][0]["image_url"]["url"] == url
    assert callers == []


async def test_no_image_is_fetched_to_count_its_tokens(
    elsewhere: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM counts tokens itself if the provider reports none."""
    url, callers = elsewhere
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with serving(streaming(SOME, STOP, DONE)) as fake, suppress(LLMError):
        await answer(litellm_backend("openai", "gpt-4o", fake.url), asking(url))
    assert fake.requests
    assert callers == []


@pytest.mark.parametrize("url", ["http://127.0.0.1/a.png", "HTTPS://example.com/a.png"])
async def test_an_engine_is_not_made_to_fetch(url: str) -> None:
    async def chat(request: Any) -> Any:
        raise AssertionError("the engine was asked")

    config = EngineConfig.model_validate({"name": "ours", "backend": "vllm", "model": "m"})
    with pytest.raises(UnsupportedParameter, match="nothing is fetched") as refusal:
        await answer(VLLMBackend(config, chat), asking(url))
    assert refusal.value.param == "messages.0.content.0.image_url.url"
    assert refusal.value.elsewhere
