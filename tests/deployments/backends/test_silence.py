"""Promise: a silence ends with a TimeoutError as in `asyncio.timeout`, and costs no timer."""

import asyncio
from contextlib import suppress

import pytest

from deployments.backends.silence import Silence


async def test_a_wait_that_takes_too_long_is_a_timeout() -> None:
    silence = Silence()
    loop = asyncio.get_running_loop()
    for _ in range(2):  # after the first, another has a limit again
        start = loop.time()
        with pytest.raises(TimeoutError), silence.at_most(0.05):
            await asyncio.sleep(30)
        assert 0.04 < loop.time() - start < 5
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_each_wait_has_the_whole_time() -> None:
    silence = Silence()
    for _ in range(4):
        with silence.at_most(0.3):
            await asyncio.sleep(0.1)
    silence.close()


async def test_a_shorter_limit_ends_sooner_and_a_longer_one_later() -> None:
    silence = Silence()
    async with asyncio.timeout(10):
        with silence.at_most(60):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError), silence.at_most(0.02):
            await asyncio.sleep(30)
        with silence.at_most(0.02):
            await asyncio.sleep(0)
        with silence.at_most(60):
            await asyncio.sleep(0.1)
    silence.close()


async def test_the_time_between_two_waits_does_not_count() -> None:
    silence = Silence()
    with silence.at_most(0.02):
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)  # the reader is slow, not the provider
    with silence.at_most(0.02):
        await asyncio.sleep(0)
    silence.close()


async def test_a_stream_of_waits_needs_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), []
    call_at = loop.call_at

    def counted(when: float, *args: object, **kwargs: object) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "call_at", counted)
    silence = Silence()
    for _ in range(1000):
        with silence.at_most(30):
            await asyncio.sleep(0)
    silence.close()
    assert len(timers) == 1


async def test_a_task_that_somebody_cancels_stays_cancelled() -> None:
    """Also if the limit is reached at the same time."""
    began = asyncio.Event()

    async def wait(seconds: float) -> None:
        silence = Silence()
        with silence.at_most(seconds):
            began.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(30)
            await asyncio.sleep(30)

    for seconds in (60, 0.01):
        began.clear()
        waiting = asyncio.create_task(wait(seconds))
        await began.wait()
        await asyncio.sleep(0.05)
        waiting.cancel()
        if seconds == 60:
            await asyncio.sleep(0)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_it_serves_one_task_after_another() -> None:
    silence = Silence()

    async def wait(seconds: float) -> None:
        with silence.at_most(0.05):
            await asyncio.sleep(seconds)

    await asyncio.create_task(wait(0))
    with pytest.raises(TimeoutError):
        await asyncio.create_task(wait(30))


async def test_an_error_within_the_limit_passes_through() -> None:
    silence = Silence()
    with pytest.raises(LookupError), silence.at_most(60):
        raise LookupError
    silence.close()
