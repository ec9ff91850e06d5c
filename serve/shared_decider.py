"""A router replica's way to the actor that decides for all of them."""

import asyncio
import logging
from typing import Any

import ray
from ray import serve as rayserve
from ray.actor import ActorHandle
from ray.serve.handle import DeploymentHandle

from serve.routing.prices import Price

logger = logging.getLogger("ray.serve")

ACTOR_NAME = "decider"
# For a batch, or for a durable write while the database is busy; most calls take a millisecond.
_PATIENCE_S = 60.0


class DeciderAway(Exception):
    """The actor is gone for a moment, or does not answer."""


class SharedDecider:
    """Calls the actor's methods, and finds it again after it was replaced.

    Args:
        embedder: the deployment that embeds; the actor uses it for histories.
    """

    def __init__(self, embedder: DeploymentHandle[Any]) -> None:
        self._embedder = embedder
        self._actor: ActorHandle[Any] | None = None
        self._settings: tuple[dict[str, Price], int] = ({}, 1)

    async def configure(self, prices: dict[str, Price], n_similar: int) -> None:
        """Hands new settings to the actor, now or as soon as it is there."""
        self._settings = prices, n_similar
        self._actor = None
        try:
            await self.call("status")
        except DeciderAway as error:
            logger.warning("smart routing starts without its store: %s", error)

    async def call(self, method: str, *args: Any, patience_s: float = _PATIENCE_S) -> Any:
        """What the actor's method gives.

        Raises:
            DeciderAway: there is no actor, or it is silent.
        """
        ref = getattr(self._found(), method).remote(*args)
        try:
            return await asyncio.wait_for(ref, patience_s)
        except (ray.exceptions.RayActorError, TimeoutError) as error:
            # A handle to a dead actor never comes back to life.
            self._actor = None
            raise DeciderAway(str(error) or f"no answer within {patience_s:g} s") from error

    def tell(self, method: str, *args: Any) -> None:
        """Calls a method whose answer nobody waits for; it arrives before what is called later.

        Raises:
            DeciderAway: there is no actor.
        """
        getattr(self._found(), method).remote(*args)

    def _found(self) -> ActorHandle[Any]:
        if self._actor is None:
            try:
                self._actor = rayserve.get_deployment_actor(ACTOR_NAME)
            except ValueError as error:
                raise DeciderAway("the actor is being made") from error
            self._actor.configure.remote(*self._settings, self._embedder)
        return self._actor
