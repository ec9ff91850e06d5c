"""Promise: a server's failures and refusals are distinguished, and no error holds a secret."""

import inspect
import traceback
from collections.abc import Callable

import openai
import pytest
from asking import answer_to, ask
from fake_providers import (
    DONE,
    FAULTS,
    SECRET,
    SOME,
    STOP,
    accepting_no_connection,
    chunk,
    serving,
    streaming,
    usage,
)

from deployments.backends.openai_endpoint import backend as backend_module
from deployments.backends.openai_endpoint.backend import ERRORS, OpenAIBackend
from deployments.errors import InvalidRequest, ProviderError, RateLimited, Unreachable

Connect = Callable[..., OpenAIBackend]


async def test_a_connection_timeout_is_not_the_models_silence(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, so it is safe to retry."""
    monkeypatch.setattr(backend_module, "_CONNECT_SECONDS", 0.3)
    with accepting_no_connection() as url, pytest.raises(Unreachable):
        await answer_to(connect(url), ask())


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_failure_becomes_its_error(connect: Connect, fault: str) -> None:
    answer, kind = FAULTS[fault]
    with serving(answer) as fake:
        backend = connect(fake.url, timeout=1.0)
        with pytest.raises(kind) as error:
            await answer_to(backend, ask())
        await backend.aclose()
    assert error.type is kind
    assert "'ours'" in error.value.message
    assert SECRET not in "".join(traceback.format_exception(error.value))
    assert len(fake.requests) == 1  # the router decides on another try


@pytest.mark.parametrize(
    "events",
    [
        (SOME, STOP),
        (SOME, usage(), DONE),
        (SOME, "data: {not json\n\n", DONE),
        (chunk(delta={"content": {"not": "text"}}), STOP, usage(), DONE),
        (SOME, chunk(finish_reason="abort"), usage(), DONE),
    ],
    ids=["no usage", "no finish reason", "no JSON", "no text", "aborted"],
)
async def test_an_incomplete_answer_is_an_error(connect: Connect, events: tuple[str, ...]) -> None:
    with serving(streaming(*events)) as fake, pytest.raises(ProviderError):
        await answer_to(connect(fake.url), ask())


async def test_a_rate_limit_says_when_to_retry(connect: Connect) -> None:
    with serving(FAULTS["rate limit"][0]) as fake, pytest.raises(RateLimited) as error:
        await answer_to(connect(fake.url), ask())
    assert error.value.retry_after == 7


async def test_a_bad_request_quotes_the_reason(connect: Connect) -> None:
    with serving(FAULTS["bad value"][0]) as fake, pytest.raises(InvalidRequest) as error:
        await answer_to(connect(fake.url), ask())
    assert "seed too big" in error.value.message


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://nowhere.invalid"])
async def test_a_server_that_does_not_exist_is_unreachable(connect: Connect, url: str) -> None:
    with pytest.raises(Unreachable):
        await answer_to(connect(url), ask())


def test_every_error_of_the_library_is_in_the_table() -> None:
    """Errors of webhooks, websockets, `.parse()` and token exchange can't come from a chat."""
    elsewhere = {
        "InvalidWebhookSignatureError",
        "WebSocketConnectionClosedError",
        "WebSocketQueueFullError",
        "LengthFinishReasonError",
        "ContentFilterFinishReasonError",
    }
    library = {
        cls
        for name in openai.__all__
        if inspect.isclass(cls := getattr(openai, name)) and issubclass(cls, Exception)
    }
    assert {cls.__name__ for cls in library - set(ERRORS)} == elsewhere
