"""Calls the models' deployments through their handles."""

import pickle
from collections.abc import Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from ray.serve.metrics import Counter

from deployments.config import ModelConfig
from deployments.contract import ChatRequest
from deployments.errors import LLMError
from serve.availability.circuits import Circuits
from serve.availability.replicas import Availability
from serve.dispatch.call import Call, Patience
from serve.ray_internals import GRPC_MOST_BYTES, answering

# A replica notices by itself when its backend goes silent. The router waits this many times the
# model's `timeout`, in case the replica hangs.
_PATIENCE = 1.5
# Bytes of a gRPC message that are left to what Ray Serve adds to a request.
_MARGIN = 2**16
# Seconds in which a model that was scaled to zero must start: Ray gives an engine an hour.
_WAKING_S = 3600.0


class Calls:
    """Calls the models' deployments through their handles, and records how each call went.

    Attributes:
        in_flight: how many calls to each model are in progress.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, DeploymentHandle[Any]],
        availability: Availability,
        circuits: Circuits,
    ) -> None:
        self.in_flight = dict.fromkeys(models, 0)
        self._models = models
        self._availability = availability
        self._circuits = circuits
        self._over_grpc, self._as_objects = (
            {name: answering(handle, over_grpc=over_grpc) for name, handle in handles.items()}
            for over_grpc in (True, False)
        )
        self._failed = Counter(
            "llm_router_failed_attempts",
            description="Calls to a model that failed or broke off.",
            tag_keys=("model", "code"),  # type: ignore[arg-type]  # any number of them
        )

    def admit(self, name: str) -> bool:
        """Whether a model may be called; see `Circuits.admit`."""
        return self._circuits.admit(name)

    def failed(self, name: str, error: LLMError) -> None:
        """Records a call that failed."""
        self._circuits.failed(name, error)
        self._failed.inc(tags={"model": name, "code": error.code})

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
        patience = _PATIENCE * config.timeout
        first = config.first_token_timeout if another_is_left else patience
        thinking = config.thinking_seconds(request.reasoning_effort)
        while_thinking = max(patience, _PATIENCE * thinking)
        asleep = self._availability.states[name].replicas == 0 and not another_is_left
        if request.model != name:
            request = request.model_copy(update={"model": name})
        handles = self._over_grpc if _is_small(request) else self._as_objects
        response = handles[name].remote(request)
        assert isinstance(response, DeploymentResponseGenerator)  # the handle streams
        return Call(
            name,
            response,
            Patience(
                accepted=_WAKING_S if asleep else first,
                first=max(first, thinking) if another_is_left else while_thinking,
                thinking=while_thinking,
                answering=patience,
            ),
            deadline,
            self._availability,
            self._circuits,
            self.in_flight,
        )


def _is_small(request: ChatRequest) -> bool:
    """Whether a request, and each message of its answer, fits into one of gRPC's."""
    # The probabilities of a whole answer's tokens come in one message, with a kilobyte for each.
    if request.logprobs and not request.stream:
        return False
    return len(pickle.dumps(request, pickle.HIGHEST_PROTOCOL)) < GRPC_MOST_BYTES - _MARGIN
