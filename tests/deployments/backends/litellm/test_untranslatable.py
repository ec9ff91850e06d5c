"""Promise: what LiteLLM can't translate is the caller's fault; what it can't send isn't."""

import sys
from typing import Any

import httpx
import pytest
from asking import answer_to, ask
from fake_providers import serving, streaming
from litellm_support import FORMATS, Connect, long_tool

from deployments.contract import ChatRequest
from deployments.errors import ProviderError, ProviderRejected, Untranslatable


def with_arguments(arguments: str) -> ChatRequest:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
    return ask(messages=messages, tools=[{"type": "function", "function": {"name": "f"}}])


def with_image(url: str) -> ChatRequest:
    image = {"type": "image_url", "image_url": {"url": url}}
    return ask(messages=[{"role": "user", "content": [image]}])


def with_schema(schema: Any) -> ChatRequest:
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    return ask(response_format=form)


NO_JSON = with_arguments("{not")
NO_CALL = ask(
    messages=[
        {"role": "user", "content": "Hi"},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
    ]
)
NO_IMAGE = with_image("data:image/png,AAAA")
ODD_TOOL = ask(tools=[long_tool({"type": "object", "properties": {"a": True}})])
SYSTEM_ALONE = ask(messages=[{"role": "system", "content": "Hi"}])


@pytest.mark.parametrize(
    ("provider", "request_"),
    [
        ("gemini", NO_JSON),
        ("gemini", NO_CALL),
        ("gemini", NO_IMAGE),
        ("gemini", ODD_TOOL),
        ("gemini", with_arguments("[" * 100_000)),
        ("ollama", NO_JSON),
        ("ollama", with_arguments("")),
        ("ollama", with_arguments("9" * 5000)),
        ("anthropic", NO_JSON),
        ("anthropic", NO_IMAGE),
        ("anthropic", SYSTEM_ALONE),
        ("bedrock", NO_IMAGE),
        ("bedrock", with_image("data:application/zip;base64,AAAA")),
        ("bedrock", with_schema({"type": ["string", "null"]})),
        ("bedrock", SYSTEM_ALONE),
    ],
)
async def test_a_request_that_cannot_be_translated_is_the_callers_fault(
    connect_format: Connect, provider: str, request_: ChatRequest
) -> None:
    with serving(streaming()) as fake, pytest.raises(Untranslatable) as error:
        await answer_to(connect_format(provider, fake.url), request_)
    assert fake.requests == []
    assert (error.value.status, error.value.retryable) == (400, False)


@pytest.mark.parametrize("provider", FORMATS)
async def test_whether_requests_would_be_sent_is_checked_without_sending_one(
    connect_format: Connect, provider: str
) -> None:
    with serving(streaming()) as fake:
        assert await connect_format(provider, fake.url)._sends_plain_requests()
    assert fake.requests == []


@pytest.mark.parametrize(
    ("provider", "request_"), [("gemini", NO_JSON), ("bedrock", NO_IMAGE), ("anthropic", NO_JSON)]
)
async def test_what_the_operator_must_fix_is_not_the_callers_fault(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, provider: str, request_: ChatRequest
) -> None:
    """Without a key no request is sent, good or bad."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with serving(streaming()) as fake:
        backend = connect(provider, fake.url, model=FORMATS[provider], api_key=None)
        for asked in (ask(), request_):
            with pytest.raises((ProviderError, ProviderRejected)):
                await answer_to(backend, asked)
    assert fake.requests == []


async def test_a_failed_token_exchange_is_not_the_callers_fault(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some providers' keys are exchanged for tokens before a request is sent."""

    async def refused(*call: Any) -> None:
        request = httpx.Request("POST", "http://tokens.invalid")
        raise httpx.HTTPStatusError("no", request=request, response=httpx.Response(400))

    monkeypatch.setattr("deployments.backends.litellm.backend.complete", refused)
    with pytest.raises(ProviderRejected):
        await answer_to(connect("gemini", "http://localhost", model="m"), ask())


async def test_a_missing_library_is_not_the_callers_fault(
    connect_format: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "botocore.auth", None)  # as if it weren't installed
    with serving(streaming()) as fake, pytest.raises(ProviderError):
        await answer_to(connect_format("bedrock", fake.url), NO_IMAGE)
