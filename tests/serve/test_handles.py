"""Promise: the router reaches models in its own process as it reaches those behind a deployment."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import pytest
from fake_providers import Fake, chunk, serving, streaming, usage
from hosted_models import configure, hosted_models
from starlette.requests import Request
from starlette.responses import Response

from deployments.contract import ChatRequest, Chunk
from deployments.errors import ProviderError, Unreachable
from deployments.replicas.error_log import log_known_errors_in_one_line
from deployments.replicas.hosted import HostedModels
from deployments.replicas.reachability import Reach
from serve.handles import Deployed, InProcess, _Local
from serve.ray_internals import GRPC_MOST_BYTES

REQUEST = ChatRequest(model="a", messages=[{"role": "user", "content": "Hi"}])


class Handle:
    """A deployment's handle that notes how it is called."""

    def __init__(self, called: list[bool], **options: Any) -> None:
        self._called = called
        self._options = options

    def options(self, **options: Any) -> "Handle":
        return Handle(self._called, **options)

    def remote(self, request: ChatRequest) -> Any:
        self._called.append(not self._options["_by_reference"])


@pytest.mark.parametrize(
    ("characters", "fields", "over_grpc"),
    [
        (10, {}, True),
        (10, {"logprobs": True, "stream": True}, True),
        (10, {"logprobs": True}, False),
        (GRPC_MOST_BYTES // 2, {}, True),
        (GRPC_MOST_BYTES, {}, False),
    ],
)
def test_what_fits_goes_over_grpc(characters: int, fields: dict[str, Any], over_grpc: bool) -> None:
    called: list[bool] = []
    handle: Any = Handle(called)
    request = ChatRequest.model_validate(
        {"model": "m", "messages": [{"role": "user", "content": "x" * characters}], **fields}
    )
    Deployed(handle).chat(request)
    assert called == [over_grpc]


def _answer(request: Request, body: Any) -> Response:
    pause = 60.0 if body["model"] == "stuck" else 0.0
    said = chunk(delta={"content": body["model"]})
    return streaming(said, pause, chunk(finish_reason="stop"), usage())(request, body)


@pytest.fixture
def provider() -> Iterator[Fake]:
    with serving(_answer) as fake:
        yield fake


@pytest.fixture
async def models(provider: Fake) -> AsyncIterator[HostedModels]:
    async with hosted_models() as models:
        yield models


def endpoint(name: str, url: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "backend": "vllm", "hostname": url, **fields}


async def answer(models: HostedModels, model: str) -> str:
    stream = InProcess(models).chat(REQUEST.model_copy(update={"model": model}))
    await stream.accepted()
    text = ""
    while True:
        try:
            text += (await anext(stream)).text
        except StopAsyncIteration:
            return text


async def test_models_in_this_process_answer_and_change(
    models: HostedModels, provider: Fake
) -> None:
    await configure(models, endpoint("a", provider.url), endpoint("b", provider.url))
    assert [await answer(models, name) for name in "ab"] == ["a", "b"]
    assert await InProcess(models).reach(["a", "b"]) == dict.fromkeys("ab", Reach())
    await configure(models, endpoint("b", provider.url), endpoint("c", provider.url))
    assert [await answer(models, name) for name in "bc"] == ["b", "c"]


async def test_their_errors_arrive_and_are_logged(
    models: HostedModels, caplog: pytest.LogCaptureFixture
) -> None:
    log_known_errors_in_one_line()  # as the router does
    await configure(models, endpoint("down", "http://127.0.0.1:9"))
    with pytest.raises(Unreachable, match="model 'down' can't be reached"):
        await answer(models, "down")
    assert any(each.startswith("provider_unreachable: model 'down'") for each in caplog.messages)


async def test_what_a_library_does_to_its_request_is_not_seen_by_the_next_model() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"$defs": {"a": {}}}}}
    request = ChatRequest.model_validate(
        {"model": "a", "messages": [{"role": "user", "content": "Hi"}], "tools": [tool]}
    )

    class Editing(HostedModels):
        async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
            for tool in request.tools or ():
                tool["function"].clear()  # type: ignore[attr-defined]
            request.messages.clear()
            yield Chunk(text="one")

    before = request.model_dump()
    assert (await anext(InProcess(Editing()).chat(request))).text == "one"
    assert request.model_dump() == before


async def test_a_cancelled_answer_gives_its_place_up(models: HostedModels, provider: Fake) -> None:
    await configure(models, endpoint("stuck", provider.url, max_ongoing_requests=1))
    for _ in range(2):
        stream = InProcess(models).chat(
            REQUEST.model_copy(update={"model": "stuck", "stream": True})
        )
        assert (await anext(stream)).text == "stuck"
        stream.cancel()


async def test_a_backend_that_does_not_stop_keeps_no_request_waiting() -> None:
    stopping = asyncio.Event()

    async def stubborn() -> AsyncGenerator[Chunk, None]:
        try:
            yield Chunk(text="one")
            await asyncio.sleep(60)
        finally:
            stopping.set()
            await asyncio.sleep(0.5)

    stream = _Local(stubborn())
    assert (await anext(stream)).text == "one"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await anext(stream)
    stream.cancel()
    await stopping.wait()
    assert not stream.task.done()
    await asyncio.wait([stream.task])
    assert stream.task.cancelled()


async def test_a_model_is_only_so_far_ahead_of_a_client_that_does_not_read() -> None:
    sent = 0

    async def endless() -> AsyncGenerator[Chunk, None]:
        nonlocal sent
        while sent < 1000:
            sent += 1
            yield Chunk(text="x")

    stream = _Local(endless())
    await asyncio.sleep(0.05)
    assert sent < 100
    for _ in range(1000):
        assert (await anext(stream)).text == "x"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.parametrize("begun", [True, False])
async def test_an_answer_that_was_cancelled_elsewhere_ends_with_an_error(begun: bool) -> None:
    async def cancelled() -> AsyncGenerator[Chunk, None]:
        yield Chunk(text="one")
        raise asyncio.CancelledError

    stream = _Local(cancelled())
    if begun:
        assert (await anext(stream)).text == "one"
    else:
        stream.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(ProviderError):
            await anext(stream)
