"""Curves of cost and quality, computed once a minute for each set of models."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from serve.routing.tradeoff import Tradeoff

Compute = Callable[[Sequence[str]], Awaitable[Tradeoff | None]]

_FRESH_S = 60.0
_MOST_KEPT = 64


class Tradeoffs:
    """Keeps the latest curves.

    Args:
        compute: gives that of these models; None where nothing is known yet.
        clock: seconds.
    """

    def __init__(self, compute: Compute, clock: Callable[[], float] = time.monotonic) -> None:
        self._compute, self._clock = compute, clock
        self._kept: OrderedDict[tuple[str, ...], tuple[float, Tradeoff]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    async def of(self, models: Sequence[str]) -> Tradeoff | None:
        """The curve of these models, a minute old at most; None where nothing is known yet."""
        key = tuple(models)
        async with self._one_at_a_time:
            if key in self._kept and self._clock() - self._kept[key][0] < _FRESH_S:
                return self._kept[key][1]
            found = await self._compute(key)
            if found is not None:
                self._kept.pop(key, None)
                self._kept[key] = self._clock(), found
                if len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
        return found
