"""The models' context windows: configured, or reported by their replicas."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from deployments.config import ModelConfig
from serve.availability.replicas import Availability
from serve.handles import Handle

logger = logging.getLogger("ray.serve")

# Seconds between rounds, and before a model whose replica could not say is asked again.
_PERIOD_S, _RETRY_S = 1.0, 60.0
_PATIENCE_S = 60.0  # many models may share a replica, and each may ask its server


class ContextWindows:
    """Asks a replica of each deployment once, in the background, as soon as there is one.

    Args:
        models: their configurations.
        handles: how each is reached.
        availability: which models have replicas; those scaled to zero are not woken.

    Attributes:
        known: tokens, for each model whose window is known so far.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, Handle],
        availability: Availability,
    ) -> None:
        self.known = {name: model.window for name, model in models.items() if model.window}
        self._handles = handles
        self._availability = availability
        self._not_before = {name: 0.0 for name in models if name not in self.known}
        self._asking: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Starts asking."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())

    def stop(self) -> None:
        """Stops asking."""
        if self._asking is not None:
            self._asking.cancel()

    def take_over(self, before: "ContextWindows", names: Iterable[str]) -> None:
        """Starts with what another object knows of these models."""
        for name in names:
            if name in self._not_before and name not in before._not_before:
                del self._not_before[name]
                if name in before.known:
                    self.known[name] = before.known[name]

    def largest(self, names: Collection[str]) -> int | None:
        """The largest window of these models; None if none is known."""
        return max((self.known[name] for name in names if name in self.known), default=None)

    async def _ask_all(self) -> None:
        while self._not_before:
            now, states = time.monotonic(), self._availability.states
            due = [
                name
                for name, not_before in self._not_before.items()
                if states[name].replicas > 0 and now >= not_before
            ]
            by_deployment = self._availability.by_deployment(due)
            await asyncio.gather(*map(self._ask, by_deployment.values()))
            await asyncio.sleep(_PERIOD_S)

    async def _ask(self, names: Sequence[str]) -> None:
        """Asks the deployment of these models."""
        windows: Mapping[str, int | None] = {}
        try:
            async with asyncio.timeout(_PATIENCE_S):
                windows = await self._handles[names[0]].context_windows(names)
        except Exception as error:  # noqa: BLE001 - requests work without it
            logger.debug("could not read the context windows of %s: %s", ", ".join(names), error)
        for name in names:
            if name not in windows:
                self._not_before[name] = time.monotonic() + _RETRY_S
                continue
            del self._not_before[name]
            if (window := windows[name]) is not None:
                self.known[name] = window
