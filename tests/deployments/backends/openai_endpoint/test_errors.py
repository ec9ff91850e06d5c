"""Promise: a server's failures and refusals are distinguished, and no error holds a secret."""

import inspect
import traceback
from collections.abc import Callable

import aiohttp
import pytest
from asking import answer_to, ask
from fake_providers import (
    DONE,
    FAULTS,
    SECRET,
    SOME,
    STOP,
    Answer,
    accepting_no_connection,
    chunk,
    serving,
    streaming,
    usage,
)
from starlette.responses import Response

from deployments.backends.openai_endpoint import backend as backend_module
from deployments.backends.openai_endpoint import events
from deployments.backends.openai_endpoint.backend import OpenAIBackend
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.backends.openai_endpoint.errors import ERRORS
from deployments.backends.provider_errors import look_up
from deployments.errors import InvalidRequest, ProviderError, RateLimited, Unreachable
from deployments.replicas.reachability import Provider

Connect = Callable[..., OpenAIBackend]


async def test_a_connection_timeout_is_not_the_models_silence(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, so it is safe to retry."""
    monkeypatch.setattr(backend_module, "_CONNECT_SECONDS", 0.3)
    with accepting_no_connection() as url, pytest.raises(Unreachable) as error:
        await answer_to(connect(url), ask())
    Provider(EndpointConfig(name="ours", backend="vllm", hostname=url)).explain(error.value)
    assert error.value.detail.startswith(f"{url}: no connection within")


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


async def test_what_a_server_never_ends_is_an_error(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_MOST_EVENT_BYTES", 1000)
    monkeypatch.setattr(backend_module, "_MOST_ANSWER_BYTES", 1000)
    endless: tuple[Answer, ...] = (
        streaming(SOME, "data: " + "x" * 2000),
        lambda request, body: Response("[" + " " * 2000),
    )
    for answer, whole in zip(endless, (False, True), strict=True):
        with serving(answer) as fake:
            asked = connect(fake.url, whole=whole)
            with pytest.raises(ProviderError, match="over 1000 bytes"):
                await answer_to(asked, ask())
            await asked.aclose()


async def test_a_rate_limit_says_when_to_retry(connect: Connect) -> None:
    with serving(FAULTS["rate limit"][0]) as fake, pytest.raises(RateLimited) as error:
        await answer_to(connect(fake.url), ask())
    assert error.value.retry_after == 7


async def test_of_a_long_error_only_the_beginning_is_read(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "_MOST_ERROR_BYTES", 1000)
    long = Response("x" * 2000, 429, {"retry-after": "7"})
    with serving(lambda request, body: long) as fake, pytest.raises(RateLimited) as raised:
        await answer_to(connect(fake.url), ask())
    assert raised.value.retry_after == 7


async def test_a_bad_request_quotes_the_reason(connect: Connect) -> None:
    with serving(FAULTS["bad value"][0]) as fake, pytest.raises(InvalidRequest) as error:
        await answer_to(connect(fake.url), ask())
    assert "seed too big" in error.value.message


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://nowhere.invalid"])
async def test_a_server_that_does_not_exist_is_unreachable(connect: Connect, url: str) -> None:
    with pytest.raises(Unreachable):
        await answer_to(connect(url), ask())


def test_every_error_of_the_library_is_in_the_table() -> None:
    library = [
        cls
        for name in aiohttp.__all__
        if inspect.isclass(cls := getattr(aiohttp, name)) and issubclass(cls, Exception)
    ]
    assert len(library) > 20
    # Of websockets and forms, and one for the library itself.
    elsewhere = {
        "WebSocketError",
        "WSMessageTypeError",
        "BadContentDispositionHeader",
        "BadContentDispositionParam",
        "EofStream",
    }
    unknown = {cls.__name__ for cls in library if look_up(ERRORS, cls.__new__(cls)) is None}
    assert unknown == elsewhere
