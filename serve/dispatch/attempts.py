"""Which model to try next after a failure: the attempts at one request."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

from deployments.config import ModelConfig
from deployments.errors import (
    ContextLengthExceeded,
    LLMError,
    ModelUnavailable,
    ProviderError,
    RateLimited,
    Unreachable,
    UnsupportedParameter,
)

# Once this many models have failed, the request fails.
MOST_MODELS = 3
# After these errors the same model may succeed on a retry.
_RETRYABLE = (ModelUnavailable, ProviderError, RateLimited, Unreachable)
_BACKOFF_S = 0.5


@dataclass(frozen=True, slots=True)
class Attempt:
    """A model to call, after waiting `wait` seconds."""

    model: str
    wait: float = 0.0


class Attempts:
    """The retries and failovers left for one request.

    A model that fails is retried once before the next one is tried; the last one is retried until
    the request's retries are spent, which all models share. A model that timed out is not retried,
    nor is one at its rate limit while another is left, unless its `Retry-After` is within its
    `rate_limit_wait`.

    Args:
        ranked: the models that may answer, best first.
        models: their configurations.
        is_open: whether a model's circuit is open, so that a retry makes no sense.
        jitter: a random number from 0 to 1.
        windows: the context windows of models whose configuration doesn't have one.
    """

    def __init__(
        self,
        ranked: Sequence[str],
        models: Mapping[str, ModelConfig],
        is_open: Callable[[str], bool],
        jitter: Callable[[], float] = random.random,
        windows: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._left = list(ranked)
        self._models = models
        self._is_open = is_open
        self._jitter = jitter
        self._windows = windows
        self._retries = 0
        self._retried = False
        self._gave_up = 0
        self._failures: list[LLMError] = []
        self._lacking: dict[str, set[str]] = {}  # the parameters that each model tried lacks

    @property
    def model(self) -> str:
        """The model to call."""
        return self._left[0]

    @property
    def another_is_left(self) -> bool:
        """Whether another model can take over from the current one."""
        return len(self._left) > 1 and self._gave_up < MOST_MODELS - 1

    def skip(self) -> None:
        """Passes over the current model, where another one is left."""
        self._left.pop(0)
        self._retried = False

    def after(self, error: LLMError, *, begun: bool = False) -> Attempt:
        """What to do after the current model has failed.

        Args:
            error: how it failed.
            begun: whether part of its answer has been sent already.

        Raises:
            LLMError: there is nothing left to try; see `verdict`.
        """
        self._failures.append(error)
        if isinstance(error, UnsupportedParameter) and error.lacking:
            self._lacking[self.model] = set(error.lacking)
        if not (error.retryable or error.elsewhere):
            raise self.verdict()
        wait = self._wait_for_the_same(error, begun)
        if wait is not None:
            self._retries += 1
            self._retried = True
            return Attempt(self.model, wait)
        self._give_up(error)
        return Attempt(self.model)

    def verdict(self) -> LLMError:
        """The error to report: the first fault, otherwise the last model's error."""
        # A fault says more than "not supported", which concerns one model alone.
        fault = next((error for error in self._failures if error.retryable), None)
        return fault or self._lacking_everywhere() or self._failures[-1]

    def _lacking_everywhere(self) -> LLMError | None:
        """The error to report if several models were tried and each lacks a parameter."""
        if not 1 < len(self._lacking) == len(self._failures):
            return None
        models, everywhere = ", ".join(self._lacking), set.intersection(*self._lacking.values())
        if everywhere:
            names = sorted(everywhere)
            said = " or ".join(f"'{name}'" for name in names)
            message = f"none of the models {models} supports {said}"
        else:
            names = sorted(set.union(*self._lacking.values()))
            said = " and ".join(f"'{name}'" for name in names)
            message = f"none of the models {models} supports {said} together"
        them = "it" if len(names) == 1 else "them"
        return UnsupportedParameter(f"{message}; leave {them} out", param=names[0], lacking=names)

    def _wait_for_the_same(self, error: LLMError, begun: bool) -> float | None:
        """Seconds after which to retry the same model; None to move on to another one."""
        config = self._models[self.model]
        spent = self._retries >= config.retries or self._is_open(self.model)
        if spent or not isinstance(error, _RETRYABLE):
            return None
        if self.another_is_left and (begun or self._retried):
            return None
        if self.another_is_left and isinstance(error, RateLimited) and not _is_short(error, config):
            return None
        if isinstance(error, ModelUnavailable):
            return 0.0  # another replica may answer
        if error.retry_after is None:
            return _BACKOFF_S * float(2**self._retries) * (0.5 + self._jitter() / 2)
        # Never earlier, and spread out after it, so that not all requests return at once.
        wait = error.retry_after + _BACKOFF_S * self._jitter()
        return wait if wait <= max(config.timeout, config.rate_limit_wait + _BACKOFF_S) else None

    def _give_up(self, error: LLMError) -> None:
        """Moves on to the next model."""
        given_up = self._left.pop(0)
        self._retried = False
        self._gave_up += error.retryable  # a model that merely lacks a feature doesn't count
        if isinstance(error, ContextLengthExceeded):
            window = self._window(given_up) or 0
            self._left = [name for name in self._left if (self._window(name) or inf) > window]
        if not self._left or self._gave_up >= MOST_MODELS:
            raise self.verdict()

    def _window(self, name: str) -> int | None:
        return self._models[name].window or self._windows.get(name)


def _is_short(error: RateLimited, config: ModelConfig) -> bool:
    """Whether to wait for a model even though another one could be tried."""
    wait = config.rate_limit_wait
    return wait > 0 and error.retry_after is not None and error.retry_after <= wait
