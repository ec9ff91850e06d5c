"""One call to a model: its chunks, and how long each may take."""

from collections.abc import MutableMapping
from contextlib import suppress
from dataclasses import dataclass

from deployments.contract import Chunk
from deployments.errors import (
    DeadlineExceeded,
    LLMError,
    ModelUnavailable,
    Overloaded,
    ProviderError,
)
from deployments.limits import Limit
from deployments.telemetry.instruments import ANSWERED, CANCELLED
from serve.availability.circuits import Circuits
from serve.availability.replicas import Availability
from serve.dispatch.deadlines import late, left
from serve.dispatch.remote_errors import translate
from serve.handles import AnswerStream
from serve.telemetry.calls import MeasuredCall


class _NoReplica(ModelUnavailable):
    """No replica is left that could accept a request."""

    asked = False


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait for a model.

    Attributes:
        accepted: for a replica that accepts the request.
        first: for the first chunk.
        thinking: for each further one before the first text or tool call. Reasoning that arrives
            shows that the model is alive.
        answering: for each one after that.
    """

    accepted: float
    first: float
    thinking: float
    answering: float


class Call:
    """The chunks of one model's answer; iterate to its end, or close it.

    A class rather than a generator, since every chunk passes through it.

    Args:
        name: the model's.
        stream: what the model's handle returned for the request.
        patience: how long to wait.
        deadline: of the whole answer, by `time.monotonic`.
        availability: ends the wait for a replica if none is left.
        circuits: told how the call went.
        in_flight: counts the calls to each model in progress, this one from now on.
        measured: measures it for the metrics.
    """

    def __init__(
        self,
        name: str,
        stream: AnswerStream,
        patience: Patience,
        deadline: float,
        availability: Availability,
        circuits: Circuits,
        in_flight: MutableMapping[str, int],
        measured: MeasuredCall,
    ) -> None:
        self._name = name
        self._stream = stream
        self._patience = patience
        self._deadline = deadline
        self._availability = availability
        self._circuits = circuits
        self._in_flight = in_flight
        self._begun = self._answering = self._ended = False  # what the model has sent
        self._complete = self._closed = False
        in_flight[name] += 1
        self._measured = measured

    def __aiter__(self) -> "Call":
        """The answer's chunks."""
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk.

        Raises:
            LLMError: the model failed or broke off.
        """
        if self._closed:
            raise StopAsyncIteration
        try:
            chunk = await self._read()
        except Exception as error:  # whatever crosses the handle becomes one of our errors
            # An error after the finish reason takes nothing from the answer.
            if not self._ended:
                known = translate(error, self._name)
                self._close(known.code)
                raise known from error
            chunk = None
        except BaseException:  # a cancellation: the client has disconnected
            # The model must stop generating.
            self._close(CANCELLED)
            raise
        if chunk is None:
            self._close(ANSWERED)
            self._circuits.answered(self._name)
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Stops the model."""
        self._close(ANSWERED if self._ended else CANCELLED)

    async def _read(self) -> Chunk | None:
        """The next chunk; None after the last one."""
        patience = self._patience
        if not self._begun:
            await self._accepted()
            self._measured.accepted()
            chunk = await self._next(patience.first)
            if chunk is None:
                raise ModelUnavailable(f"model '{self._name}' gave no answer")
            self._begun = True
            self._measured.begun()
            self._circuits.began(self._name)
        else:
            chunk = await self._next(patience.answering if self._answering else patience.thinking)
            if chunk is None:
                if not self._ended:
                    raise ProviderError(f"model '{self._name}' broke off its answer")
                return None
        if chunk.text or chunk.tool_calls:
            self._answering = True
        if chunk.finish_reason is not None:
            self._ended = True
        if chunk.usage is not None:
            self._measured.usage = chunk.usage
        return chunk

    async def _next(self, patience: float) -> Chunk | None:
        remaining = left(self._deadline)
        try:
            with Limit(self._deadline - max(remaining - patience, 0.0)):
                return await anext(self._stream)
        except StopAsyncIteration:
            self._complete = True
            return None
        except TimeoutError:
            # Which limit applied, not the clock, decides: timers may fire a little early.
            if remaining <= patience:
                raise late() from None
            raise DeadlineExceeded(f"model '{self._name}' was silent for {patience:g} s") from None

    def _late(self) -> LLMError:
        """The error if the deadline passed while the request waited for a replica."""
        if self._availability.states[self._name].replicas:
            return late()
        return late(
            f"model '{self._name}' has not started within the request's time limit; "
            "see /health/ready, and try again"
        )

    async def _accepted(self) -> None:
        """Waits until a replica has accepted the request. If none does, the model isn't at fault.

        Raises:
            Overloaded: all replicas are busy.
            ModelUnavailable: no replica is left.
        """
        name, patience = self._name, self._patience.accepted
        remaining = left(self._deadline)
        try:
            with self._availability.patience(name, min(patience, remaining)):
                await self._stream.accepted()
        except TimeoutError:
            if self._availability.is_lost(name):
                raise _NoReplica(
                    f"no replica of model '{name}' is running", retry_after=1
                ) from None
            if remaining <= patience:
                raise self._late() from None
            raise Overloaded(
                f"no replica of model '{name}' accepted the request within {patience:g} s",
                retry_after=1,
            ) from None

    def _close(self, outcome: str) -> None:
        if self._closed:
            return
        self._closed = True
        self._in_flight[self._name] -= 1
        if not self._complete:
            with suppress(Exception):  # it raises the call's own error again
                self._stream.cancel()
        self._measured.end(outcome)
