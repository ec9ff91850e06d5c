"""Reports which models can answer, from their replicas, providers and recent requests."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import Literal

from deployments.config import HostedConfig, ModelConfig
from deployments.replicas.reachability import Reach
from serve.availability.circuits import Circuits
from serve.availability.replicas import Availability, ModelState
from serve.handles import Handle

_PERIOD_S = 1.0
# Seconds between checks of a provider; fewer while it is unreachable, to notice recovery soon.
_REACHED_S, _UNREACHED_S = 30.0, 5.0
_PATIENCE_S = 60.0  # a replica may have a thousand providers to try


class Readiness:
    """The reported state of each model, as seen by this router replica.

    It only reports: routing depends on the models' circuits, which are notified when a provider
    becomes reachable again. A model counts as available only after its provider has been checked.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, Handle],
        availability: Availability,
        circuits: Circuits,
    ) -> None:
        self._availability = availability
        self._circuits = circuits
        self._handles = handles
        self._providers = {name: _Provider() for name in models if _is_watched(models[name])}
        self._watcher: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Checks the providers in the background."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._check_all())

    def stop(self) -> None:
        """Stops checking."""
        if self._watcher is not None:
            self._watcher.cancel()

    def take_over(self, before: "Readiness", names: Iterable[str]) -> None:
        """Starts with what another object knows of these models' providers."""
        self._providers |= {
            name: before._providers[name] for name in names if name in before._providers
        }

    def state(self, name: str) -> ModelState:
        """The state of a model."""
        state, fault = self._availability.states[name], self._circuits.fault(name)
        if not state.available:
            return state
        if why := self._without_provider(name):
            return replace(state, available=False, message=why)
        if fault is not None:
            message = f"has been failing since {_clock(fault.since)}: {fault.message}"
            return replace(state, available=not self._circuits.is_open(name), message=message)
        return state

    @property
    def status(self) -> Literal["ready", "degraded", "unavailable"]:
        """The status of the whole server; "unavailable" if no model can answer."""
        names = self._availability.states
        if all(self.state(name).available for name in names):
            return "ready"
        return "degraded" if any(map(self._can_answer, names)) else "unavailable"

    def _can_answer(self, name: str) -> bool:
        # A model that keeps failing counts again once its circuit is half-open. Otherwise a load
        # balancer would never send the request that finds it recovered.
        placed = self._availability.states[name].available
        return placed and not self._without_provider(name) and not self._circuits.rests(name)

    def _without_provider(self, name: str) -> str:
        provider = self._providers.get(name)
        return "" if provider is None else provider.message

    async def _check_all(self) -> None:
        while True:
            due = self._availability.by_deployment(self._due())
            await asyncio.gather(*map(self._check, due.values()))
            await asyncio.sleep(_PERIOD_S)

    async def _check(self, names: Sequence[str]) -> None:
        """Asks a replica of the deployment of these models. If it doesn't answer, the last results
        stand."""
        said: Mapping[str, Reach] = {}
        with suppress(Exception):  # any error can cross the handle; replicas are watched elsewhere
            async with asyncio.timeout(_PATIENCE_S):
                said = await self._handles[names[0]].reach(names)
        for name in names:
            provider = self._providers[name]
            before = provider.reach
            provider.found(said.get(name, before or Reach()))
            if before and before.unreachable and provider.message == "":
                self._circuits.reached(name)

    def _due(self) -> Iterator[str]:
        for name, provider in self._providers.items():
            # A recent answer proves the same, and on a busy replica a check would take up a slot.
            if self._circuits.silence(name) < _REACHED_S:
                provider.found(Reach())
            elif self._availability.states[name].replicas and provider.due <= time.monotonic():
                yield name


class _Provider:
    """The last result of checking a model's provider.

    Attributes:
        reach: what a replica said; None before the first check.
        since: when it became unreachable, in seconds since 1970.
        due: when to check again, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.reach: Reach | None = None
        self.since = 0.0
        self.due = -inf

    @property
    def message(self) -> str:
        """Why the model can't answer; "" if it can."""
        if self.reach is None:
            return "checking whether its provider can be reached"
        if self.reach.fault:
            return f"can't be served: {self.reach.fault}"
        if self.reach.unreachable:
            since = _clock(self.since)
            return f"its provider has been unreachable since {since}: {self.reach.unreachable}"
        return ""

    def found(self, reach: Reach) -> None:
        """Records what a replica said."""
        if reach.unreachable and not (self.reach and self.reach.unreachable):
            self.since = time.time()
        self.reach = reach
        fine = reach == Reach()
        self.due = time.monotonic() + (_REACHED_S if fine else _UNREACHED_S)


def _is_watched(model: ModelConfig) -> bool:
    """Whether a replica is asked about the model: where it shares one, Ray Serve doesn't say
    whether it can be served."""
    if not isinstance(model, HostedConfig) or model.may_sleep:
        return False
    return model.shares or model.hostname is not None


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
