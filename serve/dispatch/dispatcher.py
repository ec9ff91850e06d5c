"""Sends a request to the ranked models until one has answered it whole."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from ray.serve.metrics import Counter

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import (
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ModelUnavailable,
    Overloaded,
    ProviderError,
)
from serve.availability.replicas import Availability
from serve.dispatch.attempts import Attempt, Attempts
from serve.dispatch.circuits import Circuits
from serve.dispatch.deadlines import Late, late, left
from serve.dispatch.remote_errors import translate
from serve.dispatch.rescue import Rescue, Sent, anew, continuing, thoughts_apart

# A replica notices its backend's silence by itself; the router's longer patience, in times of the
# model's `timeout`, is for a replica that hangs.
_PATIENCE = 1.5
# Seconds for a model that was scaled to zero to start and answer: Ray gives an engine an hour.
_WAKING_S = 3600.0


class _NotTaken(ModelUnavailable):
    """There is no replica that would take a request."""

    asked = False


Chunks = AsyncGenerator[Chunk, None]


@dataclass(slots=True)
class Answer:
    """An answer that has begun. While `chunks` are read, another model may take over. Who doesn't
    read to the end closes it, whether or not reading has begun.

    Attributes:
        model: that writes it.
        attempts: how often a model was asked. What its replica refuses by itself, and a queue of
            ours that is full, don't count.
        started: when `model` was asked, by `time.monotonic`.
        rescues: what went wrong after the caller had been sent a part.
        chunks: all of it, the first without a wait.
        asked: what the model says.
    """

    model: str
    attempts: int
    started: float
    rescues: list[Rescue] = field(default_factory=list)
    chunks: Chunks = field(init=False)
    asked: Chunks = field(init=False)

    async def aclose(self) -> None:
        """Stops the model."""
        # A generator that has not begun doesn't close what it would read.
        await self.chunks.aclose()
        await self.asked.aclose()


class Dispatcher:
    """Calls the models' deployments by their handles."""

    def __init__(
        self,
        models: Mapping[str, ModelConfig],
        handles: Mapping[str, DeploymentHandle[Any]],
        availability: Availability,
        circuits: Circuits,
        windows: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._models = models
        self._availability = availability
        self._circuits = circuits
        self._windows = windows
        self._handles = {
            name: handle.options(stream=True, method_name="chat")
            for name, handle in handles.items()
        }
        self._failed = Counter(
            "llm_router_failed_attempts",
            description="Times that a model was asked and did not answer, or broke off.",
            tag_keys=("model", "code"),  # type: ignore[arg-type]  # any number of them
        )

    async def send(self, request: ChatRequest, ranked: Sequence[str], deadline: float) -> Answer:
        """Asks one model after the other until one begins to answer, or, where the caller waits for
        the whole, until one has answered.

        Args:
            request: what is asked.
            ranked: the models that may answer, best first.
            deadline: of all attempts together, by `time.monotonic`.

        Raises:
            LLMError: of the first model that failed, else of the last that was asked; or the
                deadline is over.
        """
        return await _Dispatch(self, request, ranked, deadline).begin()

    def attempts(self, ranked: Sequence[str]) -> Attempts:
        """The attempts at a request."""
        return Attempts(ranked, self._models, self._circuits.is_open, windows=self._windows)

    def let(self, name: str) -> bool:
        """Whether a model may be asked where another one is left."""
        return self._circuits.let(name)

    def failed(self, name: str, error: LLMError) -> None:
        """Keeps account of an attempt that failed."""
        self._circuits.failed(name, error)
        self._failed.inc(tags={"model": name, "code": error.code})

    async def ask(
        self, name: str, request: ChatRequest, deadline: float, *, another_is_left: bool
    ) -> Chunks:
        """One model's answer."""
        config = self._models[name]
        patience = _PATIENCE * config.timeout
        first = config.first_token_timeout if another_is_left else patience
        thinking = config.thinking_seconds(request.reasoning_effort)
        # Until the first text or tool call; what the model thinks aloud shows that it is alive.
        while_thinking = max(patience, _PATIENCE * thinking)
        asleep = self._availability.states[name].replicas == 0 and not another_is_left
        response = self._handles[name].remote(request.model_copy(update={"model": name}))
        assert isinstance(response, DeploymentResponseGenerator)  # the handle streams
        answering = ended = False
        try:
            await self._taken(name, response, _WAKING_S if asleep else first, deadline)
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
        except Exception as error:  # whatever crosses the handle becomes an error of ours
            # What goes wrong after the end takes nothing from the answer.
            if not ended:
                raise translate(error, name) from error
        finally:
            # Reached when the client has gone, too: the model must not go on writing for nobody.
            with suppress(Exception):  # it raises again what a call has ended with
                response.cancel()  # type: ignore[no-untyped-call]
        self._circuits.answered(name)

    async def _taken(
        self,
        name: str,
        response: DeploymentResponseGenerator[Any],
        patience: float,
        deadline: float,
    ) -> None:
        """Waits till a replica has taken the request. That none does is no fault of the model's.

        Raises:
            Overloaded: all of them have enough to do.
            ModelUnavailable: there is none any more.
        """
        remaining = left(deadline)
        try:
            async with self._availability.patience(name, min(patience, remaining)):
                # What its iteration begins with; Ray has no public name for it.
                await response._fetch_future_result_async()
        except TimeoutError:
            if self._availability.is_lost(name):
                raise _NotTaken(f"no replica of model '{name}' is running", retry_after=1) from None
            if remaining <= patience:
                raise late() from None
            raise Overloaded(
                f"no replica of model '{name}' took the request within {patience:g} s",
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
        # Decided by what was waited for: timers may fire a little early.
        if remaining <= patience:
            raise late() from None
        raise DeadlineExceeded(f"model '{name}' was silent for {patience:g} s") from None


class _Dispatch:
    """One request on its way through the models."""

    def __init__(
        self, dispatcher: Dispatcher, request: ChatRequest, ranked: Sequence[str], deadline: float
    ) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._deadline = deadline
        self._attempts = dispatcher.attempts(ranked)
        self._answer = Answer(ranked[0], attempts=0, started=time.monotonic())

    async def begin(self) -> Answer:
        attempt = Attempt(self._attempts.model)
        while True:
            await self._wait(attempt)
            try:
                chunks = await self._begun(self._request)
            except LLMError as error:
                attempt = self._after(error)
            else:
                self._answer.chunks = self._followed(chunks)
                return self._answer

    def _ask(self, request: ChatRequest) -> Chunks:
        self._answer.model = self._attempts.model
        self._answer.attempts += 1
        self._answer.started = time.monotonic()
        self._answer.asked = self._dispatcher.ask(
            self._attempts.model,
            request,
            self._deadline,
            another_is_left=self._attempts.another_is_left,
        )
        return self._answer.asked

    async def _begun(self, request: ChatRequest) -> Chunks:
        """The answer, once its first chunk is there; or all of it, where the caller wants it
        whole: a part of one is nothing to him, and another model can still take over."""
        chunks = self._ask(request)
        if self._request.stream:
            return _with_first(await anext(chunks), chunks)
        async with aclosing(chunks):
            whole = merge([chunk async for chunk in chunks])
        return _once(whole)

    def _after(self, error: LLMError, *, begun: bool = False) -> Attempt:
        if isinstance(error, Late):
            raise error
        self._failed(error)
        return self._attempts.after(error, begun=begun)

    def _failed(self, error: LLMError) -> None:
        self._dispatcher.failed(self._attempts.model, error)
        if not error.asked:
            self._answer.attempts -= 1

    async def _wait(self, attempt: Attempt) -> None:
        """Waits as long as the attempt says, unless the deadline would pass meanwhile: then another
        model is asked at once. Passes over models that keep failing."""
        if attempt.wait:
            if attempt.wait < left(self._deadline):
                await asyncio.sleep(attempt.wait)
            elif self._attempts.another_is_left:
                self._attempts.skip()
            else:
                raise self._attempts.verdict()
        while not self._dispatcher.let(self._attempts.model) and self._attempts.another_is_left:
            self._attempts.skip()

    async def _followed(self, chunks: Chunks) -> Chunks:
        """The answer to its end, whoever writes it."""
        sent = Sent()
        while True:
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        sent.add(chunk)
                        yield chunk
                return
            except LLMError as error:
                chunks = await self._rescued(sent, error)

    async def _rescued(self, sent: Sent, fault: LLMError) -> Chunks:
        """What comes after a break.

        Raises:
            LLMError: `fault`, where nobody can go on; or the deadline is over.
        """
        broken, error = self._answer.model, fault
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
                self._answer.rescues.append(rescue)
                if mode == "restarted":
                    chunks = anew(chunks, sent.text, rescue)
                return thoughts_apart(chunks) if sent.reasoning else chunks

    async def _resumed(self, sent: Sent) -> tuple[Chunks, str]:
        """What the model whose turn it is says after the part that was sent."""
        if sent.text:
            try:
                request = continuing(self._request, sent)
                return await self._begun(request), "continued"
            except InvalidRequest as refusal:
                # It takes no beginning of an answer; the request itself is sound.
                self._failed(refusal)
        return await self._begun(self._request), "restarted"


async def _with_first(first: Chunk, rest: Chunks) -> Chunks:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk


async def _once(chunk: Chunk) -> Chunks:
    yield chunk
