"""Sends a request to the ranked models, one after another, until one has answered completely."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk
from deployments.errors import InvalidRequest, LLMError
from serve.availability.circuits import Circuits
from serve.availability.replicas import Availability
from serve.dispatch.attempts import Attempt, Attempts
from serve.dispatch.calls import Calls, Chunks
from serve.dispatch.deadlines import Late, left
from serve.dispatch.rescue import Mode, Rescue, Sent, continuing, restarted, separate_reasoning


class Dispatcher:
    """Creates a `Dispatch` for each request.

    Attributes:
        in_flight: how many requests each model is answering now.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, DeploymentHandle[Any]],
        availability: Availability,
        circuits: Circuits,
        windows: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._models = models
        self._circuits = circuits
        self._windows = windows
        self._calls = Calls(models, handles, availability, circuits)
        self.in_flight: Mapping[str, int] = self._calls.in_flight

    def dispatch(self, request: ChatRequest, ranked: Sequence[str], deadline: float) -> "Dispatch":
        """The dispatch of a request, not begun yet.

        Args:
            request: the request.
            ranked: the models that may answer, best first.
            deadline: of all attempts together, by `time.monotonic`.
        """
        plan = Attempts(ranked, self._models, self._circuits.is_open, windows=self._windows)
        return Dispatch(request, plan, self._calls, deadline)


class Dispatch:
    """One request on its way through the models, and the answer that comes of it.

    `begin` it, then read its chunks with `async for`, or close it. While it is read, another model
    may take over.

    Attributes:
        model: the model that was called last.
        started: when it was called, by `time.monotonic`.
        attempts: how many times a model was called. Requests that a replica refused by itself, or
            that our own queues had no room for, don't count.
        rescues: one for each time that the answer broke off after part of it had been sent.
    """

    def __init__(self, request: ChatRequest, plan: Attempts, calls: Calls, deadline: float) -> None:
        self.model = plan.model
        self.started = time.monotonic()
        self.attempts = 0
        self.rescues: list[Rescue] = []
        self._request = request
        self._plan = plan
        self._calls = calls
        self._deadline = deadline
        self._chunks = self._answer()
        self._first: Chunk | None = None

    async def begin(self) -> None:
        """Waits until a model has begun to answer or, if the request isn't streamed, until one has
        answered completely.

        Raises:
            LLMError: no model could answer (see `Attempts.verdict`), or the deadline has passed.
        """
        self._first = await anext(self._chunks)

    def __aiter__(self) -> "Dispatch":
        """The answer's chunks."""
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk; `begin` has already read the first."""
        if (first := self._first) is not None:
            self._first = None
            return first
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Stops the model."""
        await self._chunks.aclose()

    async def _answer(self) -> Chunks:
        """The whole answer, whichever models write it."""
        sent = Sent()
        chunks = await self._begun_by_any()
        while True:
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        sent.add(chunk)
                        yield chunk
                return
            except LLMError as error:
                chunks = await self._rescued(sent, error)

    async def _begun_by_any(self) -> Chunks:
        """The answer of the first model that begins one."""
        attempt = Attempt(self._plan.model)
        while True:
            await self._wait(attempt)
            try:
                return await self._begun(self._request)
            except LLMError as error:
                attempt = self._after(error)

    async def _begun(self, request: ChatRequest) -> Chunks:
        """The next model's answer, once its first chunk is there. If the request isn't streamed,
        the answer is read to its end first, so that another model can take over until then."""
        self.model = self._plan.model
        self.attempts += 1
        self.started = time.monotonic()
        chunks = self._calls.stream(
            self.model, request, self._deadline, another_is_left=self._plan.another_is_left
        )
        if self._request.stream:
            return _after_first([await anext(chunks)], chunks)
        async with aclosing(chunks):
            return _after_first([chunk async for chunk in chunks], chunks)

    def _after(self, error: LLMError, *, begun: bool = False) -> Attempt:
        if isinstance(error, Late):
            raise error
        self._failed(error)
        return self._plan.after(error, begun=begun)

    def _failed(self, error: LLMError) -> None:
        self._calls.failed(self._plan.model, error)
        if not error.asked:
            self.attempts -= 1

    async def _wait(self, attempt: Attempt) -> None:
        """Waits as long as the attempt says, unless the deadline would pass before that: then moves
        on to another model at once. Skips models that keep failing."""
        if attempt.wait:
            if attempt.wait < left(self._deadline):
                await asyncio.sleep(attempt.wait)
            elif self._plan.another_is_left:
                self._plan.skip()
            else:
                raise self._plan.verdict()
        while not self._calls.admit(self._plan.model) and self._plan.another_is_left:
            self._plan.skip()

    async def _rescued(self, sent: Sent, fault: LLMError) -> Chunks:
        """The rest of an answer that broke off after a part of it was sent.

        Raises:
            LLMError: `fault`, where no model can resume it; or the deadline has passed.
        """
        broken, error = self.model, fault
        while True:
            try:
                attempt = self._after(error, begun=True)
                if not sent.can_be_resumed(self._request):
                    raise fault
                await self._wait(attempt)
            except Late:
                raise
            except LLMError:
                raise fault from None
            try:
                chunks, mode = await self._resumed(sent)
            except LLMError as another:
                error = another
            else:
                rescue = sent.rescue(broken, fault.code, mode)
                self.rescues.append(rescue)
                if mode == "restarted":
                    chunks = restarted(chunks, sent.text, rescue)
                return separate_reasoning(chunks) if sent.reasoning else chunks

    async def _resumed(self, sent: Sent) -> tuple[Chunks, Mode]:
        """What the next model says after the part that was sent."""
        if sent.text:
            try:
                return await self._begun(continuing(self._request, sent)), "continued"
            except InvalidRequest as refusal:
                # It doesn't resume answers; the request itself is sound.
                self._failed(refusal)
        return await self._begun(self._request), "restarted"


async def _after_first(read: Sequence[Chunk], rest: Chunks) -> Chunks:
    """The chunks already read, then the rest."""
    async with aclosing(rest):
        for chunk in read:
            yield chunk
        async for chunk in rest:
            yield chunk
