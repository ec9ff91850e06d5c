"""Which models each caller has selected, kept in one actor for all router replicas."""

from collections import OrderedDict

import ray

from deployments.errors import ModelUnavailable
from serve.access.keys import Caller
from serve.actors import ActorClient, ActorUnavailable

ACTOR_NAME = "selections"
# The actor answers in about a millisecond; a query continues without it after this.
_TIMEOUT_S = 1.0
# Callers come from the configuration; more than that are keys that were renamed many times.
_MOST_CALLERS = 10_000


class Selections:
    """Names of models by the caller's name; all callers without a key share one selection.

    They are lost when the application is deployed again.

    Args:
        most_callers: above that, the selection that was made longest ago is forgotten.
    """

    def __init__(self, most_callers: int = _MOST_CALLERS) -> None:
        self._most_callers = most_callers
        self._names: OrderedDict[str | None, tuple[str, ...]] = OrderedDict()

    def select(self, caller: str | None, names: tuple[str, ...]) -> None:
        """Remembers what a caller has selected; nothing selected stands for all models."""
        self._names.pop(caller, None)
        if names:
            self._names[caller] = names
        if len(self._names) > self._most_callers:
            self._names.popitem(last=False)

    def selected(self, caller: str | None) -> tuple[str, ...]:
        """What a caller has selected."""
        return self._names.get(caller, ())


@ray.remote(num_cpus=0)
class SelectionActor(Selections):
    """`Selections` as an actor, one per application."""

    async def select(self, caller: str | None, names: tuple[str, ...]) -> None:  # type: ignore[override]
        """See `Selections.select`."""
        super().select(caller, names)

    async def selected(self, caller: str | None) -> tuple[str, ...]:  # type: ignore[override]
        """See `Selections.selected`."""
        return super().selected(caller)


class SharedSelections:
    """A router replica's access to the actor. While the actor is unavailable, the replica goes by
    what it knew last, and a metric says so."""

    def __init__(self) -> None:
        self._known = Selections()
        self._actor = ActorClient(ACTOR_NAME, timeout_s=_TIMEOUT_S)

    async def select(self, caller: Caller, names: tuple[str, ...]) -> None:
        """Remembers what a caller has selected.

        Raises:
            ModelUnavailable: the other replicas can't be told.
        """
        try:
            await self._actor.call("select", caller.name, names)
        except ActorUnavailable:
            raise ModelUnavailable(
                "the selection can't be kept at the moment; try again", retry_after=1
            ) from None
        self._known.select(caller.name, names)

    async def selected(self, caller: Caller) -> tuple[str, ...]:
        """What a caller has selected."""
        name = caller.name
        names: tuple[str, ...] = await self._actor.call_or(
            lambda: self._known.selected(name), "selected", name
        )
        self._known.select(name, names)
        return names
