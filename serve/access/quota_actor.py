"""The shared count of requests: how many each key has made within the last minute."""

import time
from collections import deque
from collections.abc import Callable

import ray

_MINUTE_S = 60.0


class Windows:
    """Counts requests in a minute that moves on, for each key.

    Keys come from the configuration, so that they are few; of each, at most as many times are kept
    as it may make requests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: dict[str, deque[float]] = {}

    def take(self, key: str, per_minute: int) -> float:
        """Counts a request, if fewer than `per_minute` were made in the last minute; else gives the
        seconds until the next may be made."""
        now = self._clock()
        times = self._times.setdefault(key, deque())
        while times and times[0] <= now - _MINUTE_S:
            times.popleft()
        if len(times) >= per_minute:
            return times[-per_minute] + _MINUTE_S - now
        times.append(now)
        return 0.0


@ray.remote(num_cpus=0)
class Quotas(Windows):
    """`Windows` as an actor: one for the application, shared by all router replicas."""

    async def take(self, key: str, per_minute: int) -> float:  # type: ignore[override]
        """See `Windows.take`."""
        return super().take(key, per_minute)
