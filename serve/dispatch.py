"""Sends a request to the first of the ranked models that begins to answer."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk
from deployments.errors import DeadlineExceeded, LLMError, ModelUnavailable, Overloaded, RateLimited
from serve.availability import Availability
from serve.failures import translate

# A replica notices its backend's silence by itself; the router's longer patience, in times of the
# model's `timeout`, is for a replica that hangs.
_PATIENCE = 1.5
# Seconds for a model that was scaled to zero to start and answer: Ray gives an engine an hour.
_WAKING_S = 3600.0
# After so many models that failed, the request fails.
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Answer:
    """An answer that has begun: `chunks` gives all of it, the first without a wait; `started` is
    when its model was asked, by `time.monotonic`."""

    model: str
    attempts: int
    started: float
    chunks: AsyncGenerator[Chunk, None]


class Dispatcher:
    """Calls the models' deployments by their handles."""

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, DeploymentHandle[Any]],
        availability: Availability,
    ) -> None:
        self._models = models
        self._availability = availability
        self._handles = {
            name: handle.options(stream=True, method_name="chat")
            for name, handle in handles.items()
        }

    async def send(self, request: ChatRequest, ranked: Sequence[str]) -> Answer:
        """Asks one model after the other until one begins to answer.

        A model that doesn't do what is asked is passed over; after `MAX_ATTEMPTS` models that
        failed, or an error that another model can't mend, it ends. Once a model has begun, its
        answer is the answer.

        Raises:
            LLMError: of the first model that failed, else of the last that was asked.
        """
        failures: list[LLMError] = []
        for name in ranked:
            started = time.monotonic()
            chunks = self._ask(name, request)
            try:
                first = await anext(chunks)
            except LLMError as error:
                failures.append(error)
            except StopAsyncIteration:
                failures.append(ModelUnavailable(f"model '{name}' gave no answer"))
            else:
                return Answer(name, len(failures) + 1, started, _with_first(first, chunks))
            last = failures[-1]
            if isinstance(last, Overloaded | RateLimited):
                self._availability.rest(name, last.retry_after)
            if not (last.retryable or last.elsewhere):
                break
            if sum(failure.retryable for failure in failures) == MAX_ATTEMPTS:
                break
        # A fault says more than "this model doesn't do that", which is one model's affair.
        raise next((failure for failure in failures if failure.retryable), failures[-1])

    async def _ask(self, name: str, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        asleep = self._availability.states[name].replicas == 0
        patience = _WAKING_S if asleep else _PATIENCE * self._models[name].timeout
        request = request.model_copy(update={"model": name})
        response = self._handles[name].remote(request)
        assert isinstance(response, DeploymentResponseGenerator)  # the handle streams
        try:
            while True:
                async with asyncio.timeout(patience):
                    chunk = await anext(response, None)
                if chunk is None:
                    return
                yield chunk
        except TimeoutError:
            raise DeadlineExceeded(f"model '{name}' was silent for {patience:g} s") from None
        except LLMError:
            raise
        except Exception as error:  # whatever crosses the handle becomes an error of ours
            raise translate(error, name) from error
        finally:
            # Reached when the client has gone, too: the model must not go on writing for nobody.
            response.cancel()  # type: ignore[no-untyped-call]


async def _with_first(
    first: Chunk, rest: AsyncGenerator[Chunk, None]
) -> AsyncGenerator[Chunk, None]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk
