"""Promise: whatever an engine returns or raises, the caller gets an answer or one of our errors."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest
from fake_providers import DONE, SOME, STOP, chunk, usage
from ray.llm._internal.serve.utils.batcher import Batcher

from deployments.backends.vllm.backend import VLLMBackend
from deployments.backends.vllm.config import EngineConfig
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ProviderError,
    RateLimited,
    UnsupportedParameter,
)


class Engine:
    """Yields set items in the form that Ray's `LLMServer.chat` does."""

    def __init__(self, *items: Any) -> None:
        self._items = items
        self.requests: list[Any] = []
        self.closed = asyncio.Event()

    async def chat(self, request: Any) -> AsyncGenerator[list[Any], None]:
        self.requests.append(request)
        batches: Any = Batcher(self._stream(), interval_ms=0).stream()
        items: AsyncGenerator[list[Any], None] = batches
        return items

    async def _stream(self) -> AsyncGenerator[Any, None]:
        try:
            for item in self._items:
                if isinstance(item, Exception):
                    raise item
                if item is FOREVER:
                    await asyncio.sleep(60)
                yield item
        finally:
            self.closed.set()


FOREVER = object()


def refused(code: int, message: str = "no", param: str | None = None) -> SimpleNamespace:
    """An error instead of a stream: vLLM's `ErrorResponse`."""
    body = {"message": message, "type": "x", "param": param, "code": code}
    return SimpleNamespace(error=SimpleNamespace(model_dump=lambda: body))


def broken(code: int, message: str = "no") -> str:
    """An error within a stream."""
    return "data: " + json.dumps({"error": {"message": message, "code": code}}) + "\n\n"


def backend(engine: Engine, **fields: Any) -> VLLMBackend:
    return VLLMBackend(EngineConfig(name="ours", backend="vllm", **fields), engine.chat)


def ask(**fields: Any) -> ChatRequest:
    messages = [{"role": "user", "content": "Hi"}]
    return ChatRequest.model_validate({"model": "ours", "messages": messages, **fields})


async def answer(engine: Engine, request: ChatRequest, **fields: Any) -> Chunk:
    async with aclosing(backend(engine, **fields).chat(request)) as chunks:
        return merge([chunk async for chunk in chunks])


async def test_a_stream_is_read_to_its_end() -> None:
    got = await answer(Engine(SOME, STOP, usage(), DONE), ask())
    assert (got.text, got.finish_reason) == ("some", "stop")
    assert got.usage is not None


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ((refused(400, "bad"),), InvalidRequest),
        ((refused(400, "long", "input_tokens"),), ContextLengthExceeded),
        ((refused(429),), RateLimited),
        ((refused(500),), ProviderError),
        ((SOME, broken(500)), ProviderError),
        ((SOME, RuntimeError("the engine died")), ProviderError),
        ((SOME, STOP, DONE), ProviderError),  # no usage
        ((SOME, chunk(finish_reason="abort"), usage(), DONE), ProviderError),
        ((SOME, "data: {not json\n\n"), ProviderError),
        ((), ProviderError),
    ],
)
async def test_an_engine_error_becomes_the_right_error_of_ours(
    items: tuple[Any, ...], kind: type[LLMError]
) -> None:
    with pytest.raises(kind) as error:
        await answer(Engine(*items), ask())
    assert error.type is kind
    assert "'ours'" in error.value.message


async def test_a_refusal_has_the_engines_reason_and_param() -> None:
    with pytest.raises(InvalidRequest, match="too hot") as error:
        await answer(Engine(refused(400, "too hot", "temperature")), ask())
    assert error.value.param == "temperature"


async def test_a_silent_engine_times_out() -> None:
    engine = Engine(SOME, FOREVER)
    with pytest.raises(DeadlineExceeded):
        await answer(engine, ask(), timeout=0.2)
    await asyncio.wait_for(engine.closed.wait(), 10)


async def test_closing_a_stream_closes_it_in_the_engine() -> None:
    engine = Engine(SOME, FOREVER)
    async with aclosing(backend(engine).chat(ask(stream=True))) as chunks:
        assert (await anext(chunks)).text == "some"
    # Ray leaves the closing to Python, which does it a moment later.
    await asyncio.wait_for(engine.closed.wait(), 10)


async def test_a_parameter_that_the_engine_ignores_is_refused() -> None:
    engine = Engine()
    with pytest.raises(UnsupportedParameter):
        await answer(engine, ask(verbosity="low"))
    assert not engine.requests


async def test_the_request_reaches_the_engine_unchanged() -> None:
    engine = Engine(SOME, STOP, usage(), DONE)
    tool = {"type": "function", "function": {"name": "a/b"}}
    await answer(engine, ask(model="ours:sql", tools=[tool], seed=3, top_k=4, user="somebody"))
    (request,) = engine.requests
    assert (request.model, request.seed, request.top_k) == ("ours:sql", 3, 4)
    assert request.tools[0].function.name == "a__b"
    assert request.stream
    assert request.stream_options.include_usage


async def test_request_ids_are_unique() -> None:
    engine = Engine(SOME, STOP, usage(), DONE)
    for _ in range(2):
        await answer(engine, ask())
    first, second = (request.request_id for request in engine.requests)
    assert first != second
