"""One call to a model's deployment: its chunks, and how long each may take."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from ray.serve.metrics import Counter

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk
from deployments.errors import (
    DeadlineExceeded,
    LLMError,
    ModelUnavailable,
    Overloaded,
    ProviderError,
)
from serve.availability.circuits import Circuits
from serve.availability.replicas import Availability
from serve.dispatch.deadlines import late, left
from serve.dispatch.remote_errors import translate
from serve.ray_internals import replica_assigned

Chunks = AsyncGenerator[Chunk, None]

# A replica notices by itself when its backend goes silent. The router waits this many times the
# model's `timeout`, in case the replica hangs.
_PATIENCE = 1.5
# Seconds in which a model that was scaled to zero must start: Ray gives an engine an hour.
_WAKING_S = 3600.0


class _NoReplica(ModelUnavailable):
    """No replica is left that could accept a request."""

    asked = False


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
        self._handles = {
            name: handle.options(stream=True, method_name="chat")
            for name, handle in handles.items()
        }
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

    async def stream(
        self, name: str, request: ChatRequest, deadline: float, *, another_is_left: bool
    ) -> Chunks:
        """One model's answer.

        Args:
            name: the model's.
            request: the request.
            deadline: by `time.monotonic`.
            another_is_left: whether another model could answer instead, so that this one is given
                up on sooner.

        Raises:
            LLMError: the model failed or broke off.
        """
        config = self._models[name]
        patience = _PATIENCE * config.timeout
        first = config.first_token_timeout if another_is_left else patience
        thinking = config.thinking_seconds(request.reasoning_effort)
        # Before the first text or tool call. Reasoning that arrives shows that the model is alive.
        while_thinking = max(patience, _PATIENCE * thinking)
        asleep = self._availability.states[name].replicas == 0 and not another_is_left
        response = self._handles[name].remote(request.model_copy(update={"model": name}))
        assert isinstance(response, DeploymentResponseGenerator)  # the handle streams
        self.in_flight[name] += 1
        answering = ended = False
        try:
            await self._accepted(name, response, _WAKING_S if asleep else first, deadline)
            before = max(first, thinking) if another_is_left else while_thinking
            chunk = await _next(name, response, before, deadline)
            if chunk is None:
                raise ModelUnavailable(f"model '{name}' gave no answer")
            self._circuits.began(name)
            while chunk is not None:
                answering = answering or bool(chunk.text or chunk.tool_calls)
                ended = ended or chunk.finish_reason is not None
                yield chunk
                silence = patience if answering else while_thinking
                chunk = await _next(name, response, silence, deadline)
            if not ended:
                raise ProviderError(f"model '{name}' broke off its answer")
        except Exception as error:  # whatever crosses the handle becomes one of our errors
            # An error after the finish reason takes nothing from the answer.
            if not ended:
                raise translate(error, name) from error
        finally:
            self.in_flight[name] -= 1
            # Also when the client has disconnected: the model must stop generating.
            with suppress(Exception):  # it raises the call's own error again
                response.cancel()  # type: ignore[no-untyped-call]
        self._circuits.answered(name)

    async def _accepted(
        self,
        name: str,
        response: DeploymentResponseGenerator[Any],
        patience: float,
        deadline: float,
    ) -> None:
        """Waits until a replica has accepted the request. If none does, the model isn't at fault.

        Raises:
            Overloaded: all replicas are busy.
            ModelUnavailable: no replica is left.
        """
        remaining = left(deadline)
        try:
            async with self._availability.patience(name, min(patience, remaining)):
                await replica_assigned(response)
        except TimeoutError:
            if self._availability.is_lost(name):
                raise _NoReplica(
                    f"no replica of model '{name}' is running", retry_after=1
                ) from None
            if remaining <= patience:
                raise late() from None
            raise Overloaded(
                f"no replica of model '{name}' accepted the request within {patience:g} s",
                retry_after=1,
            ) from None


async def _next(
    name: str, response: DeploymentResponseGenerator[Any], patience: float, deadline: float
) -> Chunk | None:
    """The next chunk; None after the last one."""
    remaining = left(deadline)
    try:
        async with asyncio.timeout(min(patience, remaining)):
            return await anext(response, None)
    except TimeoutError:
        # Which limit applied, not the clock, decides: timers may fire a little early.
        if remaining <= patience:
            raise late() from None
        raise DeadlineExceeded(f"model '{name}' was silent for {patience:g} s") from None
