"""A bulkhead: limits one model's requests in a replica that it shares with other models."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deployments.errors import Overloaded


class Bulkhead:
    """Without it, a provider that has become slow would take the places of all the others.

    Source: https://learn.microsoft.com/azure/architecture/patterns/bulkhead

    Args:
        model: whose requests it limits.
        running: the most requests in progress.
        waiting: the most requests that wait for one of those to end.
        patience_s: how long they wait.

    Attributes:
        empty: set while no request is in progress or waits.
    """

    def __init__(self, model: str, running: int, waiting: int, patience_s: float) -> None:
        self._model = model
        self._places = asyncio.Semaphore(running)
        self._most_waiting = waiting
        self._waiting = 0
        self._here = 0  # in progress or waiting
        self.empty = asyncio.Event()
        self.empty.set()
        self._patience_s = patience_s

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Holds one of the places during the block.

        Raises:
            Overloaded: all of them are taken.
        """
        self._here += 1
        self.empty.clear()
        try:
            if self._places.locked():
                await self._wait()
            else:
                await self._places.acquire()  # at once
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._here -= 1
            if not self._here:
                self.empty.set()

    async def _wait(self) -> None:
        if self._waiting >= self._most_waiting:
            raise self._full()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await self._places.acquire()
        except TimeoutError:
            raise self._full() from None
        finally:
            self._waiting -= 1

    def _full(self) -> Overloaded:
        return Overloaded(
            f"model '{self._model}' is at its limit of concurrent requests", retry_after=1
        )
