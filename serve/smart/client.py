"""A router replica's way to the actor that decides for all of them."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import ray
from ray import serve as rayserve
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.handle import DeploymentHandle

from serve.routing.decider import Impossible
from serve.routing.prices import Price

logger = logging.getLogger("ray.serve")

ACTOR_NAME = "decider"
# For a batch, or for a durable write while the database is busy; most calls take a millisecond.
_PATIENCE_S = 60.0


class DeciderAway(Exception):
    """The actor is gone for a moment, silent, overloaded, or can't do what it was asked."""


class SharedDecider:
    """Calls the actor's methods, and finds it again after it was replaced.

    Args:
        embedder: the deployment that embeds; the actor uses it for histories.
    """

    def __init__(self, embedder: DeploymentHandle[Any]) -> None:
        self._embedder = embedder
        self._actor: ActorHandle[Any] | None = None
        self._settings: tuple[dict[str, Price], int, str] = ({}, 1, "")

    async def configure(self, prices: dict[str, Price], n_similar: int, server: str) -> None:
        """Hands new settings to the actor, now or as soon as it is there."""
        self._settings = prices, n_similar, server
        self._actor = None
        try:
            await self.call("status")
        except DeciderAway as error:
            logger.warning("smart routing starts without its store: %s", error)

    def call(self, method: str, *args: Any, patience_s: float = _PATIENCE_S) -> Awaitable[Any]:
        """What the actor's method gives. The call is on its way before this returns, so that it
        arrives before what is called later.

        Raises:
            Impossible: of a batch, when awaited.
            DeciderAway: at once where there is no actor, else when awaited.
        """
        try:
            ref = getattr(self._found(), method).remote(*args)
        except RayError as error:  # as where too many calls wait
            raise DeciderAway(type(error).__name__) from error
        return self._answer(ref, patience_s)

    async def _answer(self, ref: Any, patience_s: float) -> Any:
        try:
            return await asyncio.wait_for(ref, patience_s)
        except TimeoutError as error:
            ray.cancel(ref)
            raise DeciderAway(f"no answer within {patience_s:g} s") from error
        except RayActorError as error:
            # A handle to a dead actor never comes back to life.
            self._actor = None
            raise DeciderAway("the actor died") from error
        except RayTaskError as error:
            if isinstance(error, Impossible):
                raise Impossible(str(error.cause)) from error
            logger.error("the decider failed", exc_info=error)
            raise DeciderAway(type(error.cause).__name__) from error
        except RayError as error:  # as where a node dies with the answer
            raise DeciderAway(type(error).__name__) from error

    def _found(self) -> ActorHandle[Any]:
        if self._actor is None:
            try:
                self._actor = rayserve.get_deployment_actor(ACTOR_NAME)
            except ValueError as error:
                raise DeciderAway("the actor is being made") from error
            self._actor.configure.remote(*self._settings, self._embedder)
        return self._actor
