"""Sends a request to the ranked models, one after another, until one has answered completely."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from types import MappingProxyType

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import InvalidRequest, LLMError, ModelUnavailable
from deployments.telemetry.instruments import RESCUES
from serve.availability.circuits import Circuits
from serve.availability.replicas import Availability
from serve.dispatch.attempts import Attempt, Attempts
from serve.dispatch.call import Call
from serve.dispatch.calls import Calls
from serve.dispatch.deadlines import Late, left
from serve.dispatch.rescue import Mode, Rescue, Sent, continuing, restarted, separate_reasoning
from serve.handles import Handle

Chunks = Call | AsyncGenerator[Chunk, None]


class _Failing(ModelUnavailable):
    """The model's circuit is open."""

    asked = False


class Dispatcher:
    """Creates a `Dispatch` for each request.

    Attributes:
        in_flight: how many requests each model is answering now.
    """

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, Handle],
        availability: Availability,
        circuits: Circuits,
        windows: Mapping[str, int] = MappingProxyType({}),
        in_flight: dict[str, int] | None = None,
    ) -> None:
        self._models = models
        self._circuits = circuits
        self._windows = windows
        self._calls = Calls(models, handles, availability, circuits, in_flight)
        self.in_flight = self._calls.in_flight

    def is_ready(self, name: str) -> bool:
        """Whether a model can be asked now; see `Calls.is_ready`."""
        return self._calls.is_ready(name)

    def dispatch(self, request: ChatRequest, ranked: Sequence[str], deadline: float) -> "Dispatch":
        """The dispatch of a request, not begun yet.

        Args:
            request: the request.
            ranked: the models that may answer, best first.
            deadline: of all attempts together, by `time.monotonic`.
        """
        plan = Attempts(ranked, self._models, self._circuits.is_open, windows=self._windows)
        return Dispatch(request, plan, self._calls, deadline)

    async def once(self, request: ChatRequest, model: str, deadline: float) -> Chunk:
        """The whole answer of one model, which is asked once, and given up on as soon as if another
        one could take over. While its circuit is open, it is asked only as the circuit's probe.

        Raises:
            LLMError: it gave none.
        """
        if not self._calls.admit(model):
            raise _Failing(f"model '{model}' keeps failing", retry_after=1)
        try:
            call = self._calls.call(model, request, deadline, another_is_left=True)
            return merge([chunk async for chunk in call])
        except Late:
            raise
        except LLMError as error:
            self._calls.failed(model, error)
            raise


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
        self._sent = Sent()
        self._read: deque[Chunk] = deque()  # but not sent yet
        self._rest: Chunks | None = None

    async def begin(self) -> None:
        """Waits until a model has begun to answer or, if the request isn't streamed, until one has
        answered completely.

        Raises:
            LLMError: no model could answer (see `Attempts.verdict`), or the deadline has passed.
        """
        attempt = Attempt(self._plan.model)
        while self._rest is None:
            await self._wait(attempt)
            try:
                await self._begin(self._request)
            except LLMError as error:
                attempt = self._after(error)

    def __aiter__(self) -> "Dispatch":
        """The answer's chunks."""
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk, whichever model writes it."""
        while not self._read:
            if self._rest is None:
                raise StopAsyncIteration
            try:
                self._read.append(await anext(self._rest))
            except LLMError as error:
                self._rest = None
                await self._rescue(error)
        chunk = self._read.popleft()
        self._sent.add(chunk)
        return chunk

    async def aclose(self) -> None:
        """Stops the model."""
        self._read.clear()
        if self._rest is not None:
            await self._rest.aclose()

    async def _begin(self, request: ChatRequest) -> None:
        """Asks the next model, and waits for its first chunk. If the request isn't streamed, the
        answer is read to its end first, so that another model can take over until then."""
        self.model = self._plan.model
        self.attempts += 1
        self.started = time.monotonic()
        call = self._calls.call(
            self.model, request, self._deadline, another_is_left=self._plan.another_is_left
        )
        if self._request.stream:
            self._read.append(await anext(call))
        else:
            self._read.extend([chunk async for chunk in call])
        self._rest = call

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

    async def _rescue(self, fault: LLMError) -> None:
        """Has another model write the rest of an answer that broke off after a part of it was sent.

        Raises:
            LLMError: `fault`, where no model can resume it; or the deadline has passed.
        """
        broken, error, sent = self.model, fault, self._sent
        while self._rest is None:
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
                mode = await self._resume()
            except LLMError as another:
                error = another
            else:
                rescue = sent.rescue(broken, fault.code, mode)
                self.rescues.append(rescue)
                RESCUES.labels(broken, mode).inc()
                self._join(rescue)

    async def _resume(self) -> Mode:
        """Has the next model say what comes after the part that was sent."""
        if self._sent.text:
            try:
                await self._begin(continuing(self._request, self._sent))
            except InvalidRequest as refusal:
                # It doesn't resume answers; the request itself is sound.
                self._failed(refusal)
            else:
                return "continued"
        await self._begin(self._request)
        return "restarted"

    def _join(self, rescue: Rescue) -> None:
        """Makes a whole answer, or more reasoning, follow what was sent."""
        assert self._rest is not None
        chunks = _all([*self._read], self._rest)
        self._read.clear()
        if rescue.mode == "restarted":
            chunks = restarted(chunks, self._sent.text, rescue)
        self._rest = separate_reasoning(chunks) if self._sent.reasoning else chunks


async def _all(read: Sequence[Chunk], rest: Chunks) -> AsyncGenerator[Chunk, None]:
    """The chunks already read, then the rest."""
    async with aclosing(rest):
        for chunk in read:
            yield chunk
        async for chunk in rest:
            yield chunk
