"""Promise: the provider's status decides what an error is, and no error holds a secret."""

import inspect
import traceback

import pytest
from asking import answer_to, ask
from fake_providers import FAULTS, SECRET, failing, serving
from litellm import exceptions
from litellm_support import FORMATS, Connect

from deployments.backends.litellm.errors import ERRORS
from deployments.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
)


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])  # the two clients LiteLLM has
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_failure_becomes_its_error(connect: Connect, provider: str, fault: str) -> None:
    answer, kind = FAULTS[fault]
    with serving(answer) as fake:
        backend = connect(provider, fake.url, model="m", timeout=1.0)
        with pytest.raises(kind) as error:
            await answer_to(backend, ask())
        await backend.aclose()
    assert error.type is kind
    assert "'ours'" in error.value.message
    assert SECRET not in "".join(traceback.format_exception(error.value))
    assert len(fake.requests) == 1  # the router decides on another try


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic", "gemini", "ollama"])
async def test_every_providers_rate_limit_is_recognised(connect: Connect, provider: str) -> None:
    with serving(FAULTS["rate limit"][0]) as fake, pytest.raises(RateLimited) as error:
        await answer_to(connect(provider, fake.url, model="m"), ask())
    assert error.value.retry_after == 7


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic", "gemini", "ollama"])
async def test_every_provider_can_be_unreachable_or_silent(connect: Connect, provider: str) -> None:
    with pytest.raises(Unreachable):
        await answer_to(connect(provider, "http://127.0.0.1:9", model="m"), ask())
    with serving(FAULTS["silence"][0]) as fake, pytest.raises(DeadlineExceeded):
        await answer_to(connect(provider, fake.url, model="m", timeout=0.5), ask())


async def test_a_bad_request_quotes_the_reason(connect: Connect) -> None:
    for provider in ("openai", "hosted_vllm"):
        with serving(FAULTS["bad value"][0]) as fake, pytest.raises(InvalidRequest) as error:
            await answer_to(connect(provider, fake.url, model="m"), ask())
        assert error.value.message.endswith(": seed too big …")


@pytest.mark.parametrize(
    ("status", "kind"), [(401, ProviderRejected), (429, RateLimited), (500, ProviderError)]
)
async def test_the_status_decides_even_through_the_responses_api(
    connect: Connect, status: int, kind: type[LLMError]
) -> None:
    with serving(failing(status)) as fake:
        with pytest.raises(kind):
            await answer_to(connect("openai", fake.url, model="gpt-5-codex"), ask())
        assert len(fake.requests) == 1


async def test_a_provider_is_asked_once_even_if_litellm_drops_our_limit(
    connect: Connect,
) -> None:
    with serving(failing(500)) as fake:
        with pytest.raises(ProviderError):
            await answer_to(connect("deepinfra", fake.url, model="m"), ask())
        assert len(fake.requests) == 1


@pytest.mark.parametrize("provider", FORMATS)
async def test_the_status_decides_not_the_text_of_the_error(
    connect_format: Connect, provider: str
) -> None:
    """LiteLLM guesses from the text, which may quote the caller."""
    words = "429 quota, 500 Internal Server Error, Request timed out, API key not valid, 403"
    statuses = [400, 401, 402, 403, 404, 405, 408, 409, 418, 429, 500, 503, 504]
    answers = iter([failing(status, message=words) for status in statuses])
    with serving(lambda request, body: next(answers)(request, body)) as fake:
        backend = connect_format(provider, fake.url)
        with pytest.raises(InvalidRequest) as error:
            await answer_to(backend, ask())
        assert error.type is InvalidRequest
        for status in statuses[1:]:
            with pytest.raises(LLMError) as failure:
                await answer_to(backend, ask())
            assert not isinstance(failure.value, InvalidRequest), status
            assert failure.value.retryable


def test_every_error_of_the_library_is_in_the_table() -> None:
    library = {
        cls
        for name in dir(exceptions)
        if inspect.isclass(cls := getattr(exceptions, name))
        and issubclass(cls, Exception)
        and cls.__module__ == exceptions.__name__
    }
    assert library - set(ERRORS) == set()
    assert all(issubclass(ours, LLMError) for ours in ERRORS.values())
