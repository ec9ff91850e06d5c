"""Promise: requests join and leave the batch alone, and a failed engine is noticed."""

import asyncio
from typing import Any

import pytest
from huggingface_requests import (
    LONG,
    answer,
    ask,
    becomes_true,
    schema,
    settled,
)

from deployments.backends.huggingface.backend import HuggingFaceBackend
from deployments.errors import (
    DeadlineExceeded,
    ProviderError,
)


async def test_a_closed_answer_leaves_the_batch(random_weights: HuggingFaceBackend) -> None:
    chunks = random_weights.chat(ask(response_format=schema(LONG)))
    await anext(chunks)
    scheduler = random_weights._engine._manager.batch_processor.scheduler
    assert len(scheduler.active_requests) == 1
    await chunks.aclose()
    assert await settled(random_weights)


async def test_a_cancelled_task_leaves_the_batch(random_weights: HuggingFaceBackend) -> None:
    task = asyncio.create_task(answer(random_weights, ask(response_format=schema(LONG))))
    processor = random_weights._engine._manager.batch_processor
    assert await becomes_true(processor.has_pending_requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await settled(random_weights)


async def test_a_full_cache_restarts_answers_without_changing_them(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.backends.huggingface.engine._CPU_CACHE", 0)
    backend = own(context_window=512)
    requests = [
        ask("free", max_tokens=300, temperature=1.0, seed=1),
        ask("held", response_format=schema({"type": "string", "minLength": 150})),
        ask("greedy", max_tokens=300),
    ]
    alone = [await answer(backend, request) for request in requests]
    restarts: list[None] = []
    offloading = backend._engine._manager.batch_processor.offloading_manager
    offload = offloading.offload_requests

    def counted() -> Any:
        restarts.append(None)
        return offload()

    monkeypatch.setattr(offloading, "offload_requests", counted)
    assert await asyncio.gather(*(answer(backend, request) for request in requests)) == alone
    assert restarts


async def test_one_failing_request_leaves_the_others(random_weights: HuggingFaceBackend) -> None:
    class Unknown:
        """Not a `Decoding`, which the engine checks."""

    other = asyncio.create_task(answer(random_weights, ask(max_tokens=40)))
    with pytest.raises(ProviderError, match="'tiny'"):
        async for _ in random_weights._engine.generate([1, 2], 5, [], Unknown()):  # type: ignore[arg-type]
            pass
    assert (await other).finish_reason == "length"
    await random_weights.check_health()


async def test_a_dead_engine_fails_its_requests_and_the_health_check(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = own()
    await backend.check_health()
    chunks = backend.chat(ask(response_format=schema(LONG)))
    await anext(chunks)

    def break_down() -> None:
        raise RuntimeError("the device is lost")

    monkeypatch.setattr(backend._engine._manager.batch_processor, "prepare_next_batch", break_down)
    with pytest.raises(ProviderError, match=r"'tiny' failed: .*the device is lost"):
        async for _ in chunks:
            pass
    with pytest.raises(ProviderError, match="'tiny'"):
        await answer(backend, ask())
    with pytest.raises(ProviderError, match="the engine of model 'tiny' has stopped"):
        await backend.check_health()


async def test_a_silent_engine_times_out(own: Any) -> None:
    backend = own(timeout=0.2)
    with backend._engine._manager.pause(), pytest.raises(DeadlineExceeded, match="'tiny'"):
        await answer(backend, ask(max_tokens=5))


async def test_closing_ends_the_engines_thread(own: Any) -> None:
    backend = own()
    thread = backend._engine._manager._generation_thread
    assert thread.is_alive()
    await backend.aclose()
    assert not thread.is_alive()
    with pytest.raises(ProviderError):
        await backend.check_health()
    await backend.aclose()  # closing twice is harmless
