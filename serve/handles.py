"""How the router reaches a model: through its deployment's handle, or in the router's process."""

import asyncio
import logging
import pickle
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Protocol

from ray.serve.handle import DeploymentHandle

from deployments.contract import ChatRequest, Chunk, EmbeddingRequest, Embeddings
from deployments.errors import ProviderError
from deployments.replicas.hosted import HostedModels
from deployments.replicas.reachability import Reach
from serve.ray_internals import GRPC_MOST_BYTES, answering, embedding, replica_assigned

logger = logging.getLogger("ray.serve")

# Bytes of a gRPC message that are left to what Ray Serve adds to a request.
_MARGIN = 2**16
# The most chunks that a model in this process may be ahead of its reader.
_MOST_UNREAD = 64


class AnswerStream(Protocol):
    """The chunks of an answer, by `anext`."""

    async def accepted(self) -> None:
        """Returns once a replica has accepted the request, before it has produced anything."""

    async def __anext__(self) -> Chunk:
        """The next chunk."""

    def cancel(self) -> None:
        """Stops the model, without waiting until it has stopped."""


class Handle(Protocol):
    """Models that are reached in the same way."""

    def chat(self, request: ChatRequest) -> AnswerStream:
        """Asks the model that the request names."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Has the model that the request names embed."""

    async def reach(self, models: Sequence[str]) -> Mapping[str, Reach]:
        """See `HostedModels.reach`."""

    async def context_windows(self, models: Sequence[str]) -> Mapping[str, int | None]:
        """See `HostedModels.context_windows`."""

    async def wake(self) -> None:
        """Returns once a replica runs, which may have to be started."""


class Deployed:
    """Models behind a deployment of Ray Serve."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle
        self._over_grpc = answering(handle, over_grpc=True)
        self._as_objects = answering(handle, over_grpc=False)
        self._embedding = embedding(handle)

    def chat(self, request: ChatRequest) -> AnswerStream:
        """Asks a replica, over gRPC where the request and its answer surely fit."""
        handle = self._over_grpc if _is_small(request) else self._as_objects
        return _Remote(handle.remote(request))

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Asks a replica, which stops if this is cancelled."""
        response = self._embedding.remote(request)
        try:
            found: Embeddings = await response
        except BaseException:  # a cancellation, above all: the replica is to stop
            with suppress(Exception):  # it raises the call's own error again
                response.cancel()  # type: ignore[no-untyped-call]
            raise
        return found

    async def reach(self, models: Sequence[str]) -> Mapping[str, Reach]:
        """Asks a replica."""
        said: Mapping[str, Reach] = await self._handle.reach.remote(models)
        return said

    async def context_windows(self, models: Sequence[str]) -> Mapping[str, int | None]:
        """Asks a replica."""
        said: Mapping[str, int | None] = await self._handle.context_windows.remote(models)
        return said

    async def wake(self) -> None:
        """Calls a method that every replica has and that costs little."""
        response = self._handle.check_health.remote()
        try:
            await response
        finally:
            response.cancel()  # type: ignore[no-untyped-call]


class _Remote:
    __slots__ = ("_response",)

    def __init__(self, response: Any) -> None:
        self._response = response

    async def accepted(self) -> None:
        await replica_assigned(self._response)

    def __anext__(self) -> Any:
        return self._response.__anext__()

    def cancel(self) -> None:
        self._response.cancel()


def _is_small(request: ChatRequest) -> bool:
    """Whether a request, and each message of its answer, fits into one of gRPC's."""
    # The probabilities of a whole answer's tokens come in one message, with a kilobyte for each.
    if request.logprobs and not request.stream:
        return False
    return len(pickle.dumps(request, pickle.HIGHEST_PROTOCOL)) < GRPC_MOST_BYTES - _MARGIN


class InProcess:
    """Hosted models in this process: without the hop to a deployment, and without its isolation."""

    def __init__(self, models: HostedModels) -> None:
        self._models = models
        self._tasks: set[asyncio.Task[None]] = set()  # an event loop holds them only weakly

    def chat(self, request: ChatRequest) -> AnswerStream:
        """Asks the model with a copy of the request, as its library may edit what it is given."""
        stream = _Local(self._models.chat(request.model_copy(deep=True)))
        self._tasks.add(stream.task)
        stream.task.add_done_callback(self._tasks.discard)
        return stream

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Asks the model with a copy of the request, likewise."""
        return await self._models.embed(request.model_copy(deep=True))

    async def reach(self, models: Sequence[str]) -> Mapping[str, Reach]:
        """See `HostedModels.reach`."""
        return await self._models.reach(models)

    async def context_windows(self, models: Sequence[str]) -> Mapping[str, int | None]:
        """See `HostedModels.context_windows`."""
        return await self._models.context_windows(models)

    async def wake(self) -> None:
        """They never sleep."""


class _Local:
    """An answer that is read by a task of its own. So closing it doesn't wait until the backend has
    stopped, just as behind a deployment."""

    def __init__(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._unread: deque[Chunk] = deque()
        self._reader: asyncio.Future[None] | None = None  # resolved when there is something to read
        self._room: asyncio.Future[None] | None = None  # resolved when there is room again
        self.task = asyncio.create_task(self._read(chunks))
        self.task.add_done_callback(self._end)

    async def accepted(self) -> None:
        """At once."""

    async def __anext__(self) -> Chunk:
        while not self._unread:
            if self.task.done():
                if self.task.cancelled():
                    raise ProviderError("the backend cancelled the answer")
                raise self.task.exception() or StopAsyncIteration
            self._reader = self._loop.create_future()
            await self._reader
        chunk = self._unread.popleft()
        _resolve(self._room)
        return chunk

    def cancel(self) -> None:
        self.task.cancel()

    async def _read(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        async with aclosing(chunks):
            async for chunk in chunks:
                self._unread.append(chunk)
                _resolve(self._reader)
                if len(self._unread) == _MOST_UNREAD:
                    self._room = self._loop.create_future()
                    await self._room

    def _end(self, task: "asyncio.Task[None]") -> None:
        # As Ray Serve does for an answer of a deployment.
        if not task.cancelled() and (error := task.exception()):
            logger.error("Request failed.", exc_info=error)
        _resolve(self._reader)


def _resolve(future: "asyncio.Future[None] | None") -> None:
    if future is not None and not future.done():
        future.set_result(None)
