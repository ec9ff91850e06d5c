"""A router replica's way to the shared quotas actor, and what it does while that is gone."""

import asyncio
from math import ceil

import ray
from ray import serve as rayserve
from ray.actor import ActorHandle
from ray.serve.metrics import Counter

from deployments.errors import QuotaExceeded
from serve.access.keys import Caller
from serve.access.quota_actor import Quotas, Windows

ACTOR_NAME = "quotas"
# The actor answers in about a millisecond; beyond this the request goes on without it.
_PATIENCE_S = 1.0


class SharedQuotas:
    """Asks the actor whether a caller may make a request; if it is gone, counts alone and says so
    in a metric: then each replica allows as much as all of them together should."""

    def __init__(self) -> None:
        self._own = Windows()
        self._actor: ActorHandle[Quotas] | None = None
        self._fallbacks = Counter(
            "llm_router_quota_fallbacks",
            description="Requests that a router replica counted alone, the shared one being gone.",
        )

    async def take(self, caller: Caller) -> None:
        """Counts a request of `caller`.

        Raises:
            QuotaExceeded: the caller has made as many as it may in a minute.
        """
        if caller.name is None or caller.requests_per_minute is None:
            return
        wait = ceil(await self._wait(caller.name, caller.requests_per_minute))
        if wait > 0:
            raise QuotaExceeded(
                f"the key '{caller.name}' may make {caller.requests_per_minute} requests in a "
                f"minute; the next in {wait} s",
                retry_after=wait,
            )

    async def _wait(self, name: str, per_minute: int) -> float:
        try:
            if self._actor is None:
                self._actor = rayserve.get_deployment_actor(ACTOR_NAME)
            return await asyncio.wait_for(self._actor.take.remote(name, per_minute), _PATIENCE_S)
        except (ray.exceptions.RayError, TimeoutError, ValueError):
            # Dead, silent or not yet made again: a handle to a dead actor never comes back to life.
            self._actor = None
            self._fallbacks.inc()
            return self._own.take(name, per_minute)
