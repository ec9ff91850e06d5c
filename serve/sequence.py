"""The turns of sequential routing, counted in one actor for all router replicas."""

import ray

from serve.actors import ActorClient, ActorUnavailable
from serve.routing.sequential import Turns

ACTOR_NAME = "sequence"
# The actor answers in about a millisecond; a request continues without it after this.
_TIMEOUT_S = 1.0


@ray.remote(num_cpus=0)
class SequenceActor(Turns):
    """`Turns` as an actor, one per application."""

    async def next(self, key: str) -> int:  # type: ignore[override]
        """See `Turns.next`."""
        return super().next(key)

    async def peek(self, key: str) -> int:  # type: ignore[override]
        """See `Turns.peek`."""
        return super().peek(key)


class SharedTurns:
    """A router replica's access to the actor. While the actor is unavailable, the replica counts
    alone, and a metric says so."""

    def __init__(self) -> None:
        self._own = Turns()
        self._actor = ActorClient(ACTOR_NAME, timeout_s=_TIMEOUT_S)

    async def next(self, key: str) -> int:
        """The number of earlier requests for `key`."""
        return await self._actor.call_or(lambda: self._own.next(key), "next", key)

    async def peek(self, key: str) -> int:
        """The same number, without making one more request of it."""
        try:
            turn: int = await self._actor.call("peek", key)
        except ActorUnavailable:
            return self._own.peek(key)
        return turn
