"""How the router reaches a model: through its deployment's handle, or in the router's process."""

import asyncio
import pickle
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from ray.serve.handle import DeploymentHandle

from deployments.contract import ChatRequest, Chunk
from deployments.errors import ProviderError
from deployments.replicas.reachability import Reach
from deployments.replicas.shared import SharedReplica
from serve.ray_internals import GRPC_MOST_BYTES, answering, replica_assigned

# Bytes of a gRPC message that are left to what Ray Serve adds to a request.
_MARGIN = 2**16


class Response(Protocol):
    """The chunks of an answer, by `anext`."""

    async def accepted(self) -> None:
        """Returns once a replica has accepted the request, before it has produced anything."""

    async def __anext__(self) -> Chunk:
        """The next chunk."""

    def cancel(self) -> None:
        """Stops the model, without waiting until it has stopped."""


class Handle(Protocol):
    """Models that are reached in the same way."""

    def chat(self, request: ChatRequest) -> Response:
        """Asks the model that the request names."""

    async def reach(self, models: Sequence[str]) -> Mapping[str, Reach]:
        """See `SharedReplica.reach`."""

    async def context_windows(self, models: Sequence[str]) -> Mapping[str, int | None]:
        """See `SharedReplica.context_windows`."""

    async def wake(self) -> None:
        """Returns once a replica runs, which may have to be started."""


class Deployed:
    """Models behind a deployment of Ray Serve."""

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle
        self._over_grpc = answering(handle, over_grpc=True)
        self._as_objects = answering(handle, over_grpc=False)

    def chat(self, request: ChatRequest) -> Response:
        """Asks a replica, over gRPC where the request and its answer surely fit."""
        handle = self._over_grpc if _is_small(request) else self._as_objects
        return _Remote(handle.remote(request))

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

    def __init__(self, replica: SharedReplica) -> None:
        self._replica = replica
        self._reading: set[asyncio.Task[None]] = set()  # an event loop keeps no task alive

    async def configure(self, models: Sequence[Mapping[str, Any]]) -> None:
        """Takes the models, as they are written; see `SharedReplica.reconfigure`."""
        await self._replica.reconfigure({"models": models})

    def chat(self, request: ChatRequest) -> Response:
        """Asks the model."""
        response = _Local(self._replica.chat(request))
        self._reading.add(response.reading)
        response.reading.add_done_callback(self._reading.discard)
        return response

    async def reach(self, models: Sequence[str]) -> Mapping[str, Reach]:
        """See `SharedReplica.reach`."""
        return await self._replica.reach(models)

    async def context_windows(self, models: Sequence[str]) -> Mapping[str, int | None]:
        """See `SharedReplica.context_windows`."""
        return await self._replica.context_windows(models)

    async def wake(self) -> None:
        """They never sleep."""


class _Local:
    """An answer that a task of its own reads: so a backend that takes long to stop keeps no request
    waiting, as behind a deployment."""

    def __init__(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        self._came: deque[Chunk] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._wanted: asyncio.Future[None] | None = None
        self.reading = asyncio.create_task(self._read(chunks))

    async def accepted(self) -> None:
        """At once."""

    async def __anext__(self) -> Chunk:
        while not self._came:
            if self._ended:
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        return self._came.popleft()

    def cancel(self) -> None:
        self.reading.cancel()

    async def _read(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    self._came.append(chunk)
                    self._wake()
        except asyncio.CancelledError:
            # A library may have raised it, and then someone still waits.
            self._error = ProviderError("the backend cancelled the answer")
            raise
        except Exception as error:  # noqa: BLE001 - any error is the caller's
            self._error = error
        finally:
            self._ended = True
            self._wake()

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
