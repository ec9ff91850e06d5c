"""How many requests each key has made in the last minute, counted in one actor for all router
replicas."""

import time
from collections import deque
from collections.abc import Callable
from math import ceil

import ray

from deployments.errors import QuotaExceeded
from serve.access.keys import Caller
from serve.actors import ActorClient

ACTOR_NAME = "quotas"
_MINUTE_S = 60.0
# The actor answers in about a millisecond; a request continues without it after this.
_TIMEOUT_S = 1.0


class Windows:
    """Counts requests per key in a sliding window of one minute.

    Keys come from the configuration, so they are few; at most `per_minute` times are kept of each.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: dict[str, deque[float]] = {}

    def take(self, key: str, per_minute: int) -> float:
        """Counts a request and returns 0 if fewer than `per_minute` were made in the last minute;
        otherwise returns the seconds until the next one is allowed."""
        now = self._clock()
        times = self._times.setdefault(key, deque())
        while times and times[0] <= now - _MINUTE_S:
            times.popleft()
        if len(times) >= per_minute:
            return times[-per_minute] + _MINUTE_S - now
        times.append(now)
        return 0.0


@ray.remote(num_cpus=0)
class QuotaActor(Windows):
    """`Windows` as an actor, one per application."""

    async def take(self, key: str, per_minute: int) -> float:  # type: ignore[override]
        """See `Windows.take`."""
        return super().take(key, per_minute)


class SharedQuotas:
    """A router replica's access to the actor. While the actor is unavailable, the replica counts
    alone, and a metric says so: each replica then allows what all of them together should."""

    def __init__(self) -> None:
        self._own = Windows()
        self._actor = ActorClient(ACTOR_NAME, timeout_s=_TIMEOUT_S)

    async def take(self, caller: Caller) -> None:
        """Counts a request of `caller`.

        Raises:
            QuotaExceeded: the caller has used up its requests of the last minute.
        """
        name, per_minute = caller.name, caller.requests_per_minute
        if name is None or per_minute is None:
            return
        wait = await self._actor.call_or(
            lambda: self._own.take(name, per_minute), "take", name, per_minute
        )
        if wait > 0:
            raise QuotaExceeded(
                f"the key '{name}' may make {per_minute} requests a minute; try again in "
                f"{ceil(wait)} s",
                retry_after=ceil(wait),
            )
