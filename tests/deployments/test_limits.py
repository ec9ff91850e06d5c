"""Promise: a limit ends a wait in time, as `asyncio.timeout` does, and nothing else."""

import asyncio
import time

import pytest
import uvloop

from deployments.limits import Limit


async def wait(seconds: float, limit_s: float) -> None:
    with Limit(time.monotonic() + limit_s):
        await asyncio.sleep(seconds)


async def test_a_wait_within_its_limit_ends_by_itself() -> None:
    await wait(0, 60)
    await wait(0.01, 60)


@pytest.mark.parametrize("limit_s", [-1, 0, 0.02])
async def test_a_wait_beyond_its_limit_is_an_error(limit_s: float) -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        await wait(60, limit_s)
    assert limit_s - 0.005 < time.monotonic() - started < 5
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]


async def test_a_limit_that_has_passed_ends_a_wait_for_what_is_ready_too() -> None:
    with pytest.raises(TimeoutError):
        await wait(0, 0)


async def test_each_of_many_waits_has_its_own_limit() -> None:
    """Also those that begin while others wait, and are shorter than those."""
    limits = [0.2, 60, 0.05, 0.1, 60, 0.02]
    started = time.monotonic()
    ended: dict[int, float] = {}

    async def one(number: int, limit_s: float) -> None:
        await asyncio.sleep(number / 1000)
        try:
            await wait(0.3, limit_s)
        except TimeoutError:
            ended[number] = time.monotonic() - started

    await asyncio.gather(*(one(number, limit_s) for number, limit_s in enumerate(limits)))
    assert sorted(ended, key=ended.__getitem__) == [5, 2, 3, 0]
    assert all(limits[number] - 0.01 < at < limits[number] + 0.15 for number, at in ended.items())


async def test_the_outer_one_of_two_limits_ends_both() -> None:
    inner = outer = False
    try:
        with Limit(time.monotonic() + 0.02):
            try:
                await wait(60, 30)
            except TimeoutError:
                inner = True
    except TimeoutError:
        outer = True
    assert outer
    assert not inner


async def test_the_inner_one_of_two_limits_ends_only_itself() -> None:
    with Limit(time.monotonic() + 30):
        with pytest.raises(TimeoutError):
            await wait(60, 0.02)
        await asyncio.sleep(0.01)


async def test_a_task_that_is_cancelled_by_someone_else_stays_cancelled() -> None:
    waiting = asyncio.create_task(wait(60, 60))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    both = asyncio.create_task(wait(60, 0.02))
    await asyncio.sleep(0)
    both.cancel()  # the limit, reached at the same time, must not hide it
    time.sleep(0.03)  # noqa: ASYNC251 - so that both are due
    with pytest.raises(asyncio.CancelledError):
        await both


async def test_a_wait_can_be_ended_before_its_limit() -> None:
    limit = Limit(time.monotonic() + 60)

    async def waits() -> None:
        with limit:
            await asyncio.sleep(60)

    waiting = asyncio.create_task(waits())
    await asyncio.sleep(0.01)
    limit.expire()
    limit.expire()
    with pytest.raises(TimeoutError):
        await waiting


async def test_an_error_in_the_block_is_not_replaced() -> None:
    with pytest.raises(KeyError), Limit(time.monotonic() - 1):
        raise KeyError("x")
    await asyncio.sleep(0.01)


def test_each_event_loop_has_its_own_timer() -> None:
    for run in (asyncio.run, uvloop.run, asyncio.run):
        with pytest.raises(TimeoutError):
            run(wait(60, 0.02))
