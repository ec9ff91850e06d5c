"""A router replica's connection to one of the actors that all of them share.

Ray Serve owns these actors and replaces one that dies. A client finds its actor by name, forgets a
handle to a dead one, and never waits longer than its timeout; what to do without the actor is up to
the caller.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import ray
from ray import serve as rayserve
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError, RayTaskError

from deployments.telemetry.instruments import ACTOR_FALLBACKS

logger = logging.getLogger("ray.serve")

Result = TypeVar("Result")


class ActorUnavailable(Exception):
    """The actor is being replaced, is silent or overloaded, or failed."""


class ActorClient:
    """Calls an actor's methods.

    Args:
        name: of the deployment actor.
        timeout_s: how long a call may take, unless the call says otherwise.
        found: called with each newly found handle, before any other call goes to it.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float,
        found: Callable[[ActorHandle[Any]], None] = lambda handle: None,
    ) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._found = found
        self._handle: ActorHandle[Any] | None = None

    def call(
        self,
        method: str,
        *args: Any,
        timeout_s: float | None = None,
        raises: tuple[type[Exception], ...] = (),
    ) -> Awaitable[Any]:
        """Calls a method of the actor.

        The call is sent before this returns, so it arrives before any later one.

        Args:
            method: its name.
            args: its arguments.
            timeout_s: how long the call may take.
            raises: the method's own exceptions that the caller handles.

        Raises:
            ActorUnavailable: at once if there is no actor, otherwise when awaited.
        """
        try:
            ref = getattr(self._connected(), method).remote(*args)
        except RayError as error:  # for one, too many pending calls
            raise ActorUnavailable(type(error).__name__) from error
        return self._result(ref, timeout_s or self._timeout_s, raises)

    async def call_or(self, fallback: Callable[[], Result], method: str, *args: Any) -> Result:
        """Calls a method; if the actor is unavailable, returns `fallback()` and counts that."""
        try:
            result: Result = await self.call(method, *args)
        except ActorUnavailable:
            ACTOR_FALLBACKS.labels(self._name).inc()
            return fallback()
        return result

    def forget(self) -> None:
        """Makes the next call look the actor up again."""
        self._handle = None

    async def _result(self, ref: Any, timeout_s: float, raises: tuple[type[Exception], ...]) -> Any:
        try:
            return await asyncio.wait_for(ref, timeout_s)
        except TimeoutError as error:
            ray.cancel(ref)
            raise ActorUnavailable(f"no answer within {timeout_s:g} s") from error
        except RayActorError as error:
            # A handle to a dead actor never recovers.
            self.forget()
            raise ActorUnavailable("the actor died") from error
        except RayTaskError as error:
            if isinstance(error.cause, raises):
                raise error.cause from error
            logger.error("the actor '%s' failed", self._name, exc_info=error)
            raise ActorUnavailable(type(error.cause).__name__) from error
        except RayError as error:  # for one, a node was lost with the result
            raise ActorUnavailable(type(error).__name__) from error

    def _connected(self) -> ActorHandle[Any]:
        if self._handle is None:
            try:
                handle = rayserve.get_deployment_actor(self._name)
            except ValueError as error:
                raise ActorUnavailable("the actor is being created") from error
            self._found(handle)
            self._handle = handle
        return self._handle
