"""Circuit breakers: models that keep failing, or are full, are passed over for a while."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from deployments.config import ModelConfig
from deployments.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    Overloaded,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
)
from deployments.telemetry.instruments import OPEN_CIRCUITS

# Errors that count against a model. Bad requests and a full queue don't, and `Availability` knows
# already when there is no replica.
_FAULTS = (DeadlineExceeded, ProviderError, ProviderRejected, Unreachable)
_REST_S, _LONGEST_REST_S = 1.0, 30.0
# Faults further apart than this are not consecutive: on a quiet server five may span a day.
_IN_A_ROW_S = 300.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a model has been failing.

    Attributes:
        since: the first fault, in seconds since 1970.
        message: of the latest fault.
        unreachable: whether its provider could not be reached.
    """

    since: float
    message: str
    unreachable: bool


@dataclass(slots=True)
class _State:
    failures: int = 0  # consecutive
    failed_at: float = -inf  # the latest of them
    fault: Fault | None = None  # since the model last answered
    heard_at: float = -inf  # when it last began to answer
    opened: bool = False
    probe_at: float = 0.0  # when an open circuit admits a probe
    full_until: float = 0.0
    users: int = 1  # objects that share it and aren't retired


class Circuits:
    """One circuit breaker for each model, kept by each router replica on its own.

    A circuit opens after `circuit.failures` consecutive faults, each within five minutes of the one
    before. An open circuit admits one request every `circuit.seconds` as a probe, and closes when a
    request is answered.

    Source: https://martinfowler.com/bliki/CircuitBreaker.html
    """

    def __init__(
        self, models: Mapping[str, ModelConfig], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._models = models
        self._now = now
        self._states = {name: _State() for name in models}

    def take_over(self, before: "Circuits", names: Iterable[str]) -> None:
        """Shares the states of these models with another object, which may still be in use."""
        for name in names:
            self._states[name] = before._states[name]
            self._states[name].users += 1

    def retire(self) -> None:
        """Leaves the metrics to others. Requests that began with this object can still end."""
        for name, state in self._states.items():
            state.users -= 1
            if state.opened and not state.users:
                OPEN_CIRCUITS.labels(name).dec()

    def usable(self, names: Sequence[str]) -> list[str]:
        """Those of `names` whose models can be called now."""
        return [name for name in names if self._is_usable(self._states[name])]

    def is_open(self, name: str) -> bool:
        """Whether a model's circuit is open."""
        return self._states[name].opened

    def rests(self, name: str) -> bool:
        """Whether a model's circuit is open and doesn't admit a probe yet."""
        state = self._states[name]
        return state.opened and self._now() < state.probe_at

    def silence(self, name: str) -> float:
        """Seconds since a model last began to answer."""
        return self._now() - self._states[name].heard_at

    def fault(self, name: str) -> Fault | None:
        """The latest fault of a model; None if it has answered since."""
        return self._states[name].fault

    def admit(self, name: str) -> bool:
        """Whether a model may be called. An open circuit admits one probe, then no other request
        for `circuit.seconds`."""
        state, now = self._states[name], self._now()
        if not state.opened:
            return True
        due = now >= state.probe_at
        if due:
            state.probe_at = now + self._models[name].circuit.seconds
        return due

    def began(self, name: str) -> None:
        """Records that a model has begun to answer. If it breaks off, an open circuit reopens at
        once."""
        state = self._states[name]
        now = self._now()
        if state.opened:
            state.failed_at = now
            self._set_opened(name, False)
        state.heard_at = now

    def answered(self, name: str) -> None:
        """Records that a model has answered, even if only to refuse the request."""
        state = self._states[name]
        state.failures, state.fault = 0, None
        self._set_opened(name, False)

    def reached(self, name: str) -> None:
        """Records that a model's provider can be reached; its circuit closes if that was the
        fault."""
        fault = self._states[name].fault
        if fault is not None and fault.unreachable:
            self.answered(name)

    def failed(self, name: str, error: LLMError) -> None:
        """Records that a model has failed, or is full, or has refused a request."""
        state = self._states[name]
        if isinstance(error, InvalidRequest):
            if error.asked:
                self.answered(name)
            elif state.opened:
                state.probe_at = self._now()  # the provider wasn't called: admit another probe
        if isinstance(error, Overloaded | RateLimited):
            rest = _REST_S if error.retry_after is None else error.retry_after
            state.full_until = self._now() + min(rest, _LONGEST_REST_S)
        if not isinstance(error, _FAULTS):
            return
        circuit, now = self._models[name].circuit, self._now()
        if not state.opened and now - state.failed_at > _IN_A_ROW_S:
            state.failures, state.fault = 0, None
        since = time.time() if state.fault is None else state.fault.since
        unreachable = isinstance(error, Unreachable)
        state.fault = Fault(since, error.detail or error.message, unreachable)
        state.failures += 1
        state.failed_at = now
        if state.failures >= circuit.failures and not state.opened:
            self._set_opened(name, True)
            state.probe_at = now + circuit.seconds

    def _set_opened(self, name: str, opened: bool) -> None:
        state = self._states[name]
        if state.users and opened != state.opened:
            OPEN_CIRCUITS.labels(name).inc(1 if opened else -1)
        state.opened = opened

    def _is_usable(self, state: _State) -> bool:
        now = self._now()
        return now >= state.full_until and not (state.opened and now < state.probe_at)
