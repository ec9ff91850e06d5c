"""A router replica's way to the shared sequence actor, and what it does while that is gone."""

import asyncio

import ray
from ray import serve as rayserve
from ray.actor import ActorHandle
from ray.serve.metrics import Counter

from serve.routing.sequence import Sequence, Turns

ACTOR_NAME = "sequence"
# The actor answers in about a millisecond; beyond this the request goes on without it.
_PATIENCE_S = 1.0


class SharedTurns:
    """Asks the actor for the next turn; if it is gone, counts alone and says so in a metric."""

    def __init__(self) -> None:
        self._own = Turns()
        self._actor: ActorHandle[Sequence] | None = None
        self._fallbacks = Counter(
            "llm_router_sequence_fallbacks",
            description="Turns that a router replica took alone, the shared sequence being gone.",
        )

    async def next(self, key: str) -> int:
        """The number of earlier requests for `key`."""
        try:
            if self._actor is None:
                self._actor = rayserve.get_deployment_actor(ACTOR_NAME)
            return await asyncio.wait_for(self._actor.next.remote(key), _PATIENCE_S)
        except (ray.exceptions.RayError, TimeoutError, ValueError):
            # Dead, silent or not yet made again: a handle to a dead actor never comes back to life.
            self._actor = None
            self._fallbacks.inc()
            return self._own.next(key)
