"""Measures a router's calls of models."""

import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from deployments.config import ModelConfig
from deployments.contract import Usage
from deployments.telemetry.conventions import CHAT, INPUT, OUTPUT, provider_of
from deployments.telemetry.instruments import (
    ANSWERED,
    ATTEMPTS,
    CLIENT_DURATION,
    CLIENT_FIRST_CHUNK,
    CLIENT_TOKENS,
    IN_FLIGHT,
    ONGOING,
    QUEUED,
)

T = TypeVar("T")
A = TypeVar("A")


def counted(
    call: Callable[[A], Awaitable[T]], deployment: str
) -> Callable[[A], Coroutine[Any, Any, T]]:
    """Counts the calls of a deployment in progress."""
    in_flight = IN_FLIGHT.labels(deployment, ONGOING)

    async def counted(argument: A) -> T:
        with in_flight.track_inprogress():
            return await call(argument)

    return counted


class MeasuredCall:
    """Measures one call, which begins now.

    Args:
        model: the model's name.
        config: the model's.
        deployment: the model's.
        stream: whether the answer is streamed.
        operation: what it is asked to do, as the conventions call it.

    Attributes:
        usage: as the model reported it.
    """

    __slots__ = ("_began", "_call", "_in_flight", "_ongoing", "_stream", "usage")

    def __init__(
        self,
        model: str,
        config: ModelConfig,
        deployment: str,
        stream: bool,
        operation: str = CHAT,
    ) -> None:
        self.usage: Usage | None = None
        self._call = operation, provider_of(config.backend), model
        self._stream = stream
        self._ongoing = IN_FLIGHT.labels(deployment, ONGOING)
        self._in_flight = IN_FLIGHT.labels(deployment, QUEUED)
        self._in_flight.inc()
        self._began = time.perf_counter()

    def accepted(self) -> None:
        """A replica has accepted the request."""
        self._in_flight.dec()
        self._in_flight = self._ongoing
        self._in_flight.inc()

    def begun(self) -> None:
        """The first chunk has come."""
        if self._stream:
            waited = time.perf_counter() - self._began
            CLIENT_FIRST_CHUNK.labels(*self._call, self._call[-1]).observe(waited)

    def end(self, outcome: str) -> None:
        """The call has ended: `ANSWERED`, `CANCELLED`, or in the error of this code."""
        took = time.perf_counter() - self._began
        self._in_flight.dec()
        model = self._call[-1]
        ATTEMPTS.labels(model, outcome).inc()
        if outcome == ANSWERED:
            CLIENT_DURATION.labels(*self._call, model, "").observe(took)
        else:
            CLIENT_DURATION.labels(*self._call, "", outcome).observe(took)
        if self.usage is not None:
            input = CLIENT_TOKENS.labels(*self._call, model, INPUT)
            input.observe(self.usage.prompt_tokens)
        if self.usage is not None and self._call[0] == CHAT:
            output = CLIENT_TOKENS.labels(*self._call, model, OUTPUT)
            output.observe(self.usage.completion_tokens)
