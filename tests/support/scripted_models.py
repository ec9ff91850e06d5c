"""Models that answer by script, behind the real dispatcher and core, without a cluster."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import httpx
from fastapi import FastAPI

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, Usage, merge
from deployments.errors import InvalidRequest
from serve.access.keys import Caller, Keys
from serve.availability.circuits import Circuits
from serve.availability.context_windows import ContextWindows
from serve.availability.readiness import Readiness
from serve.availability.replicas import Availability, ModelState
from serve.config import RouterConfig, ServerConfig
from serve.core import Core
from serve.dispatch.dispatcher import Dispatch, Dispatcher
from serve.embeddings import Embedding
from serve.fleet import Fleet
from serve.http.api import create_api
from serve.http.console.records import remembering
from serve.http.middleware.access_log import AccessLog
from serve.http.middleware.gate import guard
from serve.http.server import Server
from serve.routing.prices import Price
from serve.routing.sequential import SequentialStrategy
from serve.routing.strategy import Strategy
from serve.strategies import STRATEGIES, Kind

REQUEST = ChatRequest(model="auto", messages=[{"role": "user", "content": "Count."}])
STREAMED = REQUEST.model_copy(update={"stream": True})
END = Chunk(finish_reason="stop", usage=Usage(5, 3))

IMPATIENT = {"timeout": 0.4, "first_token_timeout": 0.2}
"""Settings for tests that wait for a timeout. Others would fail where a machine stands still."""

Script = Callable[[ChatRequest], AsyncIterator[Chunk]]


class Response:
    """What a model's handle returns for a call."""

    def __init__(
        self, chunks: AsyncIterator[Chunk], queued_s: float, refused: Exception | None
    ) -> None:
        self._chunks = chunks
        self._queued_s = queued_s
        self._refused = refused
        self.left = False

    async def accepted(self) -> None:
        await asyncio.sleep(self._queued_s)
        if self._refused is not None:
            raise self._refused

    async def __anext__(self) -> Chunk:
        return await anext(self._chunks)

    def cancel(self) -> None:
        self.left = True
        if self._refused is not None:
            raise self._refused  # as Ray's does


class Models:
    """Models with a script for each call; the last script repeats.

    Attributes:
        scripts: by the models' names.
        asked: the name and the request of each call.
        responses: of each call.
        queued_s: until a replica accepts a request.
        refused: what Ray raises instead of accepting one.
    """

    def __init__(self, keys: dict[str, Any] | None = None, /, **scripts: list[Script]) -> None:
        self.scripts = scripts
        self.asked: list[tuple[str, ChatRequest]] = []
        self.responses: list[Response] = []
        self.queued_s = 0.0
        self.refused: Exception | None = None
        patient = {"timeout": 30, "first_token_timeout": 30}
        configs = {
            name: ModelConfig(name=name, backend="x", **(patient | (keys or {})))
            for name in scripts
        }
        self.availability = Availability(configs, {name: name for name in configs})
        well = ModelState(available=True, status="HEALTHY", replicas=1, message="")
        self.availability.states = dict.fromkeys(configs, well)
        self.circuits = Circuits(configs)
        handles: Any = {name: self._handle(name) for name in scripts}
        self.dispatcher = Dispatcher(configs, handles, self.availability, self.circuits)
        self.configs, self.handles = configs, handles

    def _handle(self, name: str) -> Any:
        models = self

        class Handle:
            def chat(self, request: ChatRequest) -> Response:
                scripts = models.scripts[name]
                turn = sum(asked == name for asked, _ in models.asked)
                models.asked.append((name, request))
                response = Response(
                    scripts[min(turn, len(scripts) - 1)](request), models.queued_s, models.refused
                )
                models.responses.append(response)
                return response

        return Handle()

    async def core(
        self, strategy: Strategy | None = None, prices: dict[str, Price] | None = None
    ) -> Core:
        """A core over the models, with one strategy; sequential routing unless another is given."""
        if strategy is None:
            turns = count()
            strategy = SequentialStrategy(lambda key: asyncio.sleep(0, next(turns)))
        sequential = replace(STRATEGIES["sequential"], make=lambda context: strategy)
        kinds = {**STRATEGIES, "sequential": sequential}
        return await self.core_with(kinds, RouterConfig(), prices)

    async def core_with(
        self,
        kinds: Mapping[str, Kind],
        router: RouterConfig,
        prices: dict[str, Price] | None = None,
    ) -> Core:
        """A core over the models, with these strategies and settings."""
        core = Core(
            self.configs,
            self.handles,
            self.availability,
            self.circuits,
            windows={},
            smart=None,
            kinds=kinds,
        )
        await core.configure(router, prices or {})
        return core

    @property
    def order(self) -> str:
        """The names of the models in the order of the calls."""
        return "".join(name for name, _ in self.asked)

    async def send(self, request: ChatRequest = REQUEST, seconds: float = 60) -> Dispatch:
        """An answer that has begun."""
        deadline = time.monotonic() + seconds
        dispatch = self.dispatcher.dispatch(request, list(self.scripts), deadline)
        await dispatch.begin()
        return dispatch

    async def answer(self, request: ChatRequest = REQUEST) -> tuple[Dispatch, Chunk]:
        """An answer, and the whole of it."""
        dispatch = await self.send(request)
        return dispatch, merge([chunk async for chunk in dispatch])


def says(*pieces: str | Chunk | Exception, pause: float = 0.0) -> Script:
    """A model that sends these pieces, each after a pause in seconds."""

    async def script(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        for piece in pieces:
            await asyncio.sleep(pause)
            if isinstance(piece, Exception):
                raise piece
            yield Chunk(text=piece) if isinstance(piece, str) else piece

    return script


def continues(whole: str) -> Script:
    """A model that continues an answer up to `whole`."""

    async def script(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        begun = request.messages[-1]["content"] if request.continue_final_message else ""
        assert isinstance(begun, str)
        yield Chunk(text=whole.removeprefix(begun))
        yield END

    return script


def refuses_a_beginning(whole: str) -> Script:
    """A model that can't continue an answer."""

    async def script(request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        if request.continue_final_message:
            raise InvalidRequest("the last message must be the user's")
        yield Chunk(text=whole)
        yield END

    return script


def api_client(
    core: Core, models: Models, *, peer: str = "127.0.0.1", **config: Any
) -> httpx.AsyncClient:
    """A client, at the address `peer`, of the whole HTTP API over a core of these models."""
    api = http_api(core, models, **config)
    transport = httpx.ASGITransport(api, raise_app_exceptions=False, client=(peer, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def http_api(core: Core, models: Models, **config: Any) -> FastAPI:
    """The whole HTTP API over a core of these models."""
    server_config = ServerConfig.model_validate({"allow_anonymous": True, **config})
    windows = ContextWindows(models.configs, models.handles, models.availability)
    readiness = Readiness(models.configs, models.handles, models.availability, models.circuits)
    api = create_api()
    embedding = Embedding({}, models.handles, models.availability, models.circuits, core.models)
    fleet = Fleet(
        models.configs, core, embedding, models.availability, models.circuits, windows, readiness
    )
    server = Server(server_config, fleet)
    server.attach(api)
    guarded = guard(api, server_config, Keys(server_config, models.configs), unlimited)
    guarded.add_middleware(AccessLog, ended=remembering(server))
    return guarded


async def unlimited(caller: Caller) -> None:
    """Counts nothing."""
