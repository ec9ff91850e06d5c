"""Which models can answer, as far as replicas, providers and the last requests tell."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import Any, Literal

from ray.serve.handle import DeploymentHandle

from deployments.config import HostedConfig, ModelConfig
from serve.availability.replicas import Availability, ModelState
from serve.dispatch.circuits import Circuits

_PERIOD_S = 1.0
# Providers are checked rarely, unreachable ones more often: somebody is waiting for them.
_REACHED_S, _UNREACHED_S = 30.0, 5.0
_PATIENCE_S = 10.0


class Readiness:
    """How each model is reported, as this router replica sees it.

    It only reports: which models are asked depends on their circuits, which are told when a
    provider is back. A model counts as available only once its provider has been checked.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, DeploymentHandle[Any]],
        availability: Availability,
        circuits: Circuits,
    ) -> None:
        self._availability = availability
        self._circuits = circuits
        self._providers = {
            name: _Provider(handles[name])
            for name, model in models.items()
            if isinstance(model, HostedConfig) and model.hostname and not model.may_sleep
        }
        self._watcher: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Checks the providers in the background."""
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._look())

    def state(self, name: str) -> ModelState:
        """How a model is."""
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
        """Of all models together; "unavailable" where none can answer."""
        names = self._availability.states
        if all(self.state(name).available for name in names):
            return "ready"
        return "degraded" if any(map(self._can_answer, names)) else "unavailable"

    def _can_answer(self, name: str) -> bool:
        # A model that keeps failing counts once it may be tried again. A load balancer would
        # otherwise never send the request that finds it well.
        placed = self._availability.states[name].available
        return placed and not self._without_provider(name) and not self._circuits.rests(name)

    def _without_provider(self, name: str) -> str:
        provider = self._providers.get(name)
        if provider is None:
            return ""
        if provider.why is None:
            return "checking whether its provider can be reached"
        if provider.why:
            since = _clock(provider.since)
            return f"its provider has been unreachable since {since}: {provider.why}"
        return ""

    async def _look(self) -> None:
        while True:
            await asyncio.gather(*map(self._look_for, self._due()))
            await asyncio.sleep(_PERIOD_S)

    async def _look_for(self, name: str) -> None:
        provider = self._providers[name]
        was_away = bool(provider.why)
        await provider.look()
        if was_away and not provider.why:
            self._circuits.reached(name)

    def _due(self) -> Iterator[str]:
        for name, provider in self._providers.items():
            # An answer tells as much, and on a busy replica a check would take a request's place.
            if self._circuits.silence(name) < _REACHED_S:
                provider.found("")
            elif self._availability.states[name].replicas and provider.due <= time.monotonic():
                yield name


class _Provider:
    """What a model's replicas last said of its provider.

    Attributes:
        why: it can't be reached; "" if it can, None before the first check.
        since: when it became unreachable, in seconds since 1970.
        due: when it is to be checked again, by `time.monotonic`.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._ask = handle.options(method_name="unreachable").remote
        self.why: str | None = None
        self.since = 0.0
        self.due = -inf

    async def look(self) -> None:
        """Asks a replica. If it doesn't answer, the last result stands."""
        why = self.why or ""
        with suppress(Exception):  # whatever crosses the handle: replicas are watched elsewhere
            async with asyncio.timeout(_PATIENCE_S):
                why = await self._ask()
        self.found(why)

    def found(self, why: str) -> None:
        """Notes why it can't be reached, or that it can."""
        if why and not self.why:
            self.since = time.time()
        self.why = why
        self.due = time.monotonic() + (_UNREACHED_S if why else _REACHED_S)


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
