"""Who is asked next when a model has failed: the attempts at one request."""

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

# After so many models that failed, the request fails.
MOST_MODELS = 3
# Where these were met, the same model may answer when it is asked again.
_AGAIN = (ModelUnavailable, ProviderError, RateLimited, Unreachable)
_BACKOFF_S = 0.5


@dataclass(frozen=True, slots=True)
class Attempt:
    """A model to ask, after a `wait` in seconds."""

    model: str
    wait: float = 0.0


class Attempts:
    """What may be tried for one request. It has one budget of retries, whichever models they go to.

    A model that fails is asked once more before another one is, the last one until the budget is
    spent. One that is silent is not asked again; nor is one at its rate limit while another is
    left, unless its `Retry-After` is within its `rate_limit_wait`.

    Args:
        ranked: the models that may answer, best first.
        models: their configurations.
        is_open: whether a model has kept failing, so that asking it again makes no sense.
        jitter: a random number, 0 to 1.
        windows: the context windows of models whose configuration doesn't say it.
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
        self._asked_again = False
        self._gave_up = 0
        self._failures: list[LLMError] = []
        self._lacking: dict[str, set[str]] = {}  # the parameters that each model asked lacks

    @property
    def model(self) -> str:
        """The model that is asked."""
        return self._left[0]

    @property
    def another_is_left(self) -> bool:
        """Whether another model can take over from the one that is asked."""
        return len(self._left) > 1 and self._gave_up < MOST_MODELS - 1

    def skip(self) -> None:
        """Passes over the model that was to be asked; another one is left."""
        self._left.pop(0)
        self._asked_again = False

    def after(self, error: LLMError, *, begun: bool = False) -> Attempt:
        """What to do now that the model has failed; `begun`: part of its answer has been read.

        Raises:
            LLMError: there is nothing left to try. It is the first fault of a model, else what the
                last one said.
        """
        self._failures.append(error)
        if isinstance(error, UnsupportedParameter) and error.lacking:
            self._lacking[self.model] = set(error.lacking)
        if not (error.retryable or error.elsewhere):
            raise self.verdict()
        wait = self._wait_for_the_same(error, begun)
        if wait is not None:
            self._retries += 1
            self._asked_again = True
            return Attempt(self.model, wait)
        self._give_up(error)
        return Attempt(self.model)

    def verdict(self) -> LLMError:
        """What to tell the caller, after all that went wrong."""
        # A fault says more than "this model doesn't do that", which is one model's affair.
        fault = next((error for error in self._failures if error.retryable), None)
        return fault or self._lacking_everywhere() or self._failures[-1]

    def _lacking_everywhere(self) -> LLMError | None:
        """What to tell the caller where several models were asked and each lacks a parameter."""
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
        """Seconds after which the same model is asked again; None where it is not."""
        config = self._models[self.model]
        spent = self._retries >= config.retries or self._is_open(self.model)
        if spent or not isinstance(error, _AGAIN):
            return None
        if self.another_is_left and (begun or self._asked_again):
            return None
        if self.another_is_left and isinstance(error, RateLimited) and not _is_short(error, config):
            return None
        if isinstance(error, ModelUnavailable):
            return 0.0  # another replica may be there
        if error.retry_after is None:
            return _BACKOFF_S * float(2**self._retries) * (0.5 + self._jitter() / 2)
        # Not before it, and not all at once after it.
        wait = error.retry_after + _BACKOFF_S * self._jitter()
        return wait if wait <= max(config.timeout, config.rate_limit_wait + _BACKOFF_S) else None

    def _give_up(self, error: LLMError) -> None:
        """Goes on to the next model that may do what this one didn't."""
        given_up = self._left.pop(0)
        self._asked_again = False
        self._gave_up += error.retryable  # not where the model just doesn't do what is asked
        if isinstance(error, ContextLengthExceeded):
            window = self._window(given_up) or 0
            self._left = [name for name in self._left if (self._window(name) or inf) > window]
        if not self._left or self._gave_up >= MOST_MODELS:
            raise self.verdict()

    def _window(self, name: str) -> int | None:
        return self._models[name].window or self._windows.get(name)


def _is_short(error: RateLimited, config: ModelConfig) -> bool:
    """Whether to wait for a model although another one could be asked."""
    wait = config.rate_limit_wait
    return wait > 0 and error.retry_after is not None and error.retry_after <= wait
