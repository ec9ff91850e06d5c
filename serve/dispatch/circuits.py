"""Which models are passed over for a while: those that keep failing, and those that are full."""

import time
from collections.abc import Callable, Mapping, Sequence
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

# What a model does wrong. What its callers do wrong, and that it is full, is not its fault; that it
# has no replica is known from elsewhere.
_FAULTS = (DeadlineExceeded, ProviderError, ProviderRejected, Unreachable)
_REST_S, _LONGEST_REST_S = 1.0, 30.0
# Faults further apart are not in a row: on a quiet server five of them may take a day.
_IN_A_ROW_S = 300.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a model has been failing, and since when (seconds since 1970). `unreachable` says whether
    its provider could not be reached."""

    since: float
    message: str
    unreachable: bool


@dataclass(slots=True)
class _State:
    failures: int = 0  # one after the other
    failed_at: float = -inf  # the last of them
    fault: Fault | None = None  # since the model has last answered
    heard_at: float = -inf  # when it last began to answer
    opened: bool = False
    probe_at: float = 0.0  # of an open circuit: when it may be asked again
    full_until: float = 0.0


class Circuits:
    """One circuit breaker for each model, of this router replica alone.

    A circuit opens after `circuit.failures` faults one after the other, each within five minutes of
    the one before. An open one lets one request through in every `circuit.seconds`, and closes when
    it is answered.

    Source: https://martinfowler.com/bliki/CircuitBreaker.html
    """

    def __init__(
        self, models: Mapping[str, ModelConfig], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._models = models
        self._now = now
        self._states = {name: _State() for name in models}

    def fit(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that may be asked now."""
        return [name for name in names if self._is_fit(self._states[name])]

    def is_open(self, name: str) -> bool:
        """Whether a model has kept failing."""
        return self._states[name].opened

    def rests(self, name: str) -> bool:
        """Whether a model has kept failing and is not due for another try yet."""
        state = self._states[name]
        return state.opened and self._now() < state.probe_at

    def silence(self, name: str) -> float:
        """Seconds since a model last began to answer."""
        return self._now() - self._states[name].heard_at

    def fault(self, name: str) -> Fault | None:
        """The last fault of a model that has not answered since; None if it has."""
        return self._states[name].fault

    def let(self, name: str) -> bool:
        """Whether a model may be asked. Of one that has kept failing, who hears yes is the only one
        to ask it for a while."""
        state, now = self._states[name], self._now()
        if not state.opened:
            return True
        due = now >= state.probe_at
        if due:
            state.probe_at = now + self._models[name].circuit.seconds
        return due

    def began(self, name: str) -> None:
        """A model has begun to answer. If it breaks off, its circuit opens again at once."""
        state = self._states[name]
        now = self._now()
        if state.opened:
            state.opened, state.failed_at = False, now
        state.heard_at = now

    def answered(self, name: str) -> None:
        """A model has answered, if only that it can't do what is asked."""
        state = self._states[name]
        state.failures, state.opened, state.fault = 0, False, None

    def reached(self, name: str) -> None:
        """A model's provider can be reached again. If that was all, the model is well."""
        fault = self._states[name].fault
        if fault is not None and fault.unreachable:
            self.answered(name)

    def failed(self, name: str, error: LLMError) -> None:
        """A model has failed, or is full, or refused a request."""
        state = self._states[name]
        if isinstance(error, InvalidRequest):
            if error.asked:
                self.answered(name)
            elif state.opened:
                state.probe_at = self._now()  # the next one may ask instead
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
            state.opened = True
            state.probe_at = now + circuit.seconds

    def _is_fit(self, state: _State) -> bool:
        now = self._now()
        return now >= state.full_until and not (state.opened and now < state.probe_at)
