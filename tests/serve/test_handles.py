"""Promise: the router reaches models in its own process as it reaches those behind a deployment."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import pytest
from fake_providers import Fake, chunk, serving, streaming, usage
from shared_replica import shared_replica
from starlette.requests import Request
from starlette.responses import Response

from deployments.contract import ChatRequest, Chunk
from deployments.errors import ProviderError, Unreachable
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
async def here() -> AsyncIterator[InProcess]:
    async with shared_replica() as replica:
        yield InProcess(replica)


def endpoint(name: str, url: str) -> dict[str, Any]:
    return {"name": name, "backend": "vllm", "hostname": url}


async def answer(handle: InProcess, model: str) -> str:
    response = handle.chat(REQUEST.model_copy(update={"model": model}))
    await response.accepted()
    text = ""
    while True:
        try:
            text += (await anext(response)).text
        except StopAsyncIteration:
            return text


async def test_models_in_this_process_answer_and_change(here: InProcess, provider: Fake) -> None:
    await here.configure([endpoint("a", provider.url), endpoint("b", provider.url)])
    assert [await answer(here, name) for name in "ab"] == ["a", "b"]
    assert await here.reach(["a", "b"]) == dict.fromkeys("ab", Reach())
    await here.configure([endpoint("b", provider.url), endpoint("c", provider.url)])
    assert [await answer(here, name) for name in "bc"] == ["b", "c"]


async def test_their_errors_arrive(here: InProcess) -> None:
    await here.configure([endpoint("down", "http://127.0.0.1:9")])
    with pytest.raises(Unreachable, match="model 'down' can't be reached"):
        await answer(here, "down")


async def test_a_cancelled_answer_gives_its_place_up(here: InProcess, provider: Fake) -> None:
    await here.configure([{**endpoint("stuck", provider.url), "max_ongoing_requests": 1}])
    for _ in range(2):
        response = here.chat(REQUEST.model_copy(update={"model": "stuck", "stream": True}))
        assert (await anext(response)).text == "stuck"
        response.cancel()


async def test_a_backend_that_does_not_stop_keeps_no_request_waiting() -> None:
    stopping = asyncio.Event()

    async def stubborn() -> AsyncGenerator[Chunk, None]:
        try:
            yield Chunk(text="one")
            await asyncio.sleep(60)
        finally:
            stopping.set()
            await asyncio.sleep(0.5)

    response = _Local(stubborn())
    assert (await anext(response)).text == "one"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await anext(response)
    response.cancel()
    await stopping.wait()
    assert not response.reading.done()
    await asyncio.wait([response.reading])


async def test_a_library_that_cancels_itself_ends_the_answer_with_an_error() -> None:
    async def cancelled() -> AsyncGenerator[Chunk, None]:
        yield Chunk(text="one")
        raise asyncio.CancelledError

    response = _Local(cancelled())
    assert (await anext(response)).text == "one"
    with pytest.raises(ProviderError):
        await anext(response)
