"""A router's access to the store's actor without Ray Serve: it is found by its name in Ray."""

from collections.abc import Mapping
from typing import Any

import ray
from ray.actor import ActorHandle

from serve.actors import ActorClient, ActorUnavailable
from serve.smart.client import ACTOR_NAME, SharedStore

_TIMEOUT_S = 60.0


class _Client(ActorClient):
    def _connected(self) -> ActorHandle[Any]:
        if self._handle is None:
            try:
                self._handle = ray.get_actor(self._name)
            except ValueError as error:
                raise ActorUnavailable("the actor is being created") from error
        return self._handle


class Access(SharedStore):
    """All calls are those of a router replica. The actor is configured by whoever starts it."""

    def __init__(self, identities: Mapping[str, str]) -> None:
        super().__init__(None, identities, {})
        self._actor = _Client(ACTOR_NAME, timeout_s=_TIMEOUT_S)
