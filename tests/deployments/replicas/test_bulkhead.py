"""Promise: a model's requests never take more than its own places in a replica."""

import asyncio

import pytest

from deployments.errors import Overloaded
from deployments.replicas.bulkhead import Bulkhead


async def held(bulkhead: Bulkhead, end: asyncio.Event) -> None:
    async with bulkhead.place():
        await end.wait()


async def test_beyond_its_places_and_its_queue_requests_are_refused_at_once() -> None:
    bulkhead, end = Bulkhead("m", running=2, waiting=1, patience_s=60), asyncio.Event()
    requests = [asyncio.create_task(held(bulkhead, end)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="model 'm' is at its limit of concurrent requests"):
        async with bulkhead.place():
            pass
    end.set()
    await asyncio.gather(*requests)


async def test_a_place_is_waited_for_only_so_long() -> None:
    bulkhead, end = Bulkhead("m", running=1, waiting=9, patience_s=0.05), asyncio.Event()
    first = asyncio.create_task(held(bulkhead, end))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        async with bulkhead.place():
            pass
    end.set()
    await first


async def test_it_is_not_empty_while_a_request_waits_for_the_place_of_one_that_ends() -> None:
    bulkhead, ends = Bulkhead("m", running=1, waiting=1, patience_s=60), asyncio.Event()
    first = asyncio.create_task(held(bulkhead, ends))
    await asyncio.sleep(0)
    end_of_second = asyncio.Event()
    second = asyncio.create_task(held(bulkhead, end_of_second))
    emptied = asyncio.create_task(bulkhead.empty.wait())
    await asyncio.sleep(0)
    ends.set()
    await first
    await asyncio.sleep(0.01)
    assert not emptied.done()
    end_of_second.set()
    await second
    await emptied


async def test_a_request_that_is_cancelled_leaves_its_place() -> None:
    bulkhead, end = Bulkhead("m", running=1, waiting=1, patience_s=60), asyncio.Event()
    running, waiting = (asyncio.create_task(held(bulkhead, end)) for _ in range(2))
    await asyncio.sleep(0)
    assert not bulkhead.empty.is_set()
    waiting.cancel()
    running.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    assert bulkhead.empty.is_set()
    async with bulkhead.place():
        pass
