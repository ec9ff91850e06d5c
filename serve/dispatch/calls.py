"""Calls the models through their handles."""

from collections.abc import Mapping

from deployments.config import ModelConfig
from deployments.contract import ChatRequest
from deployments.errors import LLMError
from serve.availability.circuits import Circuits
from serve.availability.replicas import Availability
from serve.dispatch.call import Call, Patience
from serve.handles import Handle
from serve.telemetry.calls import MeasuredCall

# A replica notices by itself when its backend goes silent. The router waits this many times the
# model's `timeout`, in case the replica hangs.
PATIENCE = 1.5
# Seconds in which a model that was scaled to zero must start: Ray gives an engine an hour.
WAKING_S = 3600.0


class Calls:
    """Calls the models through their handles, and records how each call went.

    Attributes:
        in_flight: how many calls to each model are in progress, those of others that share the
            dictionary included.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, Handle],
        availability: Availability,
        circuits: Circuits,
        in_flight: dict[str, int] | None = None,
    ) -> None:
        self.in_flight = {} if in_flight is None else in_flight
        for name in models:
            self.in_flight.setdefault(name, 0)
        self._models = models
        self._availability = availability
        self._circuits = circuits
        self._handles = handles

    def is_ready(self, name: str) -> bool:
        """Whether a model runs, and neither keeps failing nor has just said that it is full."""
        runs = not self._availability.is_lost(name) and not self._availability.sleeps(name)
        return runs and bool(self._circuits.usable([name]))

    def admit(self, name: str) -> bool:
        """Whether a model may be called; see `Circuits.admit`."""
        return self._circuits.admit(name)

    def failed(self, name: str, error: LLMError) -> None:
        """Records a call that failed."""
        self._circuits.failed(name, error)

    def call(
        self, name: str, request: ChatRequest, deadline: float, *, another_is_left: bool
    ) -> Call:
        """Asks one model.

        Args:
            name: the model's.
            request: the request.
            deadline: by `time.monotonic`.
            another_is_left: whether another model could answer instead, so that this one is given
                up on sooner.
        """
        config = self._models[name]
        patience = PATIENCE * config.timeout
        first = config.first_token_timeout if another_is_left else patience
        thinking = config.thinking_seconds(request.reasoning_effort)
        while_thinking = max(patience, PATIENCE * thinking)
        asleep = self._availability.states[name].replicas == 0 and not another_is_left
        if request.model != name:
            request = request.model_copy(update={"model": name})
        return Call(
            name,
            self._handles[name].chat(request),
            Patience(
                accepted=WAKING_S if asleep else first,
                first=max(first, thinking) if another_is_left else while_thinking,
                thinking=while_thinking,
                answering=patience,
            ),
            deadline,
            self._availability,
            self._circuits,
            self.in_flight,
            MeasuredCall(name, config, self._availability.deployment_of(name), request.stream),
        )
