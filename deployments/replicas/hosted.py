"""Hosted models that share a process, each behind a bulkhead."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, EmbeddingRequest, Embeddings
from deployments.errors import LLMError, ModelUnavailable, ProviderRejected
from deployments.registry import named, row_of
from deployments.replicas.bulkhead import Bulkhead
from deployments.replicas.model import ServedModel
from deployments.replicas.reachability import Reach, Tries
from deployments.replicas.sending import Streams

logger = logging.getLogger("ray.serve")

T = TypeVar("T")

# A place in a bulkhead is waited for less long than the first token, so that a full model is
# reported as full, and not as silent.
_PATIENCE_SHARE = 0.5
# How many providers are asked at a time.
_AT_ONCE = 32
# Routers and replicas learn of a change one after the other. So a request for a model that is not
# there yet waits this long, and a model that has left answers for this long.
_ARRIVAL_S, _LINGER_S = 2.0, 10.0


class _Unknown(ModelUnavailable):
    """The replica doesn't know the model yet, or no longer."""

    asked = False


class _NotServed(ProviderRejected):
    """The model can't be served as it is configured."""

    asked = False


class _Model:
    """A model, or why it can't be served."""

    def __init__(self, config: ModelConfig, tries: Tries, streams: Streams) -> None:
        self.config = config
        self.fault = ""
        self.served: ServedModel | None = None
        patience_s = _PATIENCE_SHARE * min(config.timeout, config.first_token_timeout)
        self.bulkhead = Bulkhead(config.name, config.max_ongoing_requests, config.queue, patience_s)
        try:
            self.served = ServedModel(config, tries, streams)
        except Exception as error:  # noqa: BLE001 - one model's fault must not stop the others
            self.fault = str(error) or type(error).__name__
            logger.error("model '%s' can't be served: %s", config.name, self.fault)

    def answering(self) -> ServedModel:
        """The model.

        Raises:
            _NotServed: it can't be served.
        """
        if self.served is None:
            error = _NotServed(
                f"model '{self.config.name}' can't be served as it is configured; the server's "
                "operator finds the reason in /health/ready"
            )
            error.detail = self.fault
            raise error
        return self.served

    async def close(self) -> None:
        """Closes it once its last answer has ended."""
        await self.bulkhead.empty.wait()
        if self.served is not None:
            await self.served.aclose()


class HostedModels:
    """Answers for many hosted models, each behind a bulkhead.

    They change without a new process: a model that is not changed keeps its connections, and one
    that is removed or changed finishes its answers first.
    """

    def __init__(self) -> None:
        self._models: dict[str, _Model] = {}
        self._tries, self._streams = Tries(), Streams()
        self._leaving: dict[str, _Model] = {}
        self._open: set[_Model] = set()  # these, and those that finish their last answers
        self._changed = asyncio.Event()  # set at the next change
        self._tasks: set[asyncio.Task[None]] = set()

    async def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Takes these models in place of the ones before."""
        for path in {row_of(config).backend for config in configs}:
            # In a thread, since it may import a library for seconds.
            await asyncio.to_thread(_imported, path)
        before, models = self._models, {}
        for config in configs:
            known = before.get(config.name)
            if known is not None and known.config == config and not known.fault:
                models[config.name] = known
            else:
                models[config.name] = _Model(config, self._tries, self._streams)
                self._open.add(models[config.name])
                await asyncio.sleep(0)  # lets running answers go on
        self._models = models
        self._changed.set()
        self._changed = asyncio.Event()
        for name, model in before.items():
            if models.get(name) is not model:
                self._leaving[name] = model
                task = asyncio.create_task(self._leave(name, model))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` by the model that it names; see `ServedModel.chat`."""
        model = await self._find(request.model)
        served = model.answering()
        async with model.bulkhead.place(), aclosing(served.chat(request)) as pieces:
            async for piece in pieces:
                yield piece

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Embeds by the model that the request names; see `Embedder.embed`."""
        model = await self._find(request.model)
        served = model.answering()
        async with model.bulkhead.place():
            return await served.embed(request)

    async def reach(self, models: Sequence[str]) -> dict[str, Reach]:
        """Whether each model can be served and its provider be reached."""

        async def reached(model: _Model) -> Reach:
            if model.served is None:
                return Reach(fault=model.fault)
            return Reach(unreachable=await model.served.unreachable())

        return await self._ask(models, reached)

    async def context_windows(self, models: Sequence[str]) -> dict[str, int | None]:
        """The context window of each model that can say it; see `Backend.context_window`."""
        return await self._ask(models, lambda model: model.answering().context_window())

    async def check_health(self) -> None:
        """Raises if a model's backend must be replaced; see `Backend.check_health`."""
        for model in list(self._models.values()):
            if model.served is not None:
                await model.served.check_health()

    async def close(self) -> None:
        """Closes all models, whether they still answer or not."""
        for model in list(self._open):
            if model.served is not None:
                await model.served.aclose()

    async def _ask(
        self, names: Sequence[str], ask: Callable[[_Model], Awaitable[T]]
    ) -> dict[str, T]:
        """What the models say, without those that fail."""
        said: dict[str, T] = {}
        limit = asyncio.Semaphore(_AT_ONCE)

        async def ask_one(model: _Model) -> None:
            async with limit:
                try:
                    said[model.config.name] = await ask(model)
                except LLMError as error:
                    logger.debug("model '%s' didn't say: %s", model.config.name, error)

        await asyncio.gather(*(ask_one(m) for name in names if (m := self._models.get(name))))
        return said

    async def _find(self, name: str) -> _Model:
        try:
            async with asyncio.timeout(_ARRIVAL_S):
                while (model := self._models.get(name) or self._leaving.get(name)) is None:
                    await self._changed.wait()
        except TimeoutError:
            raise _Unknown(
                f"this replica doesn't know model '{name}' (yet, or any more)", retry_after=1
            ) from None
        return model

    async def _leave(self, name: str, model: _Model) -> None:
        await asyncio.sleep(_LINGER_S)
        if self._leaving.get(name) is model:
            del self._leaving[name]
        await model.close()
        self._open.discard(model)


def _imported(path: str) -> None:
    with suppress(Exception):  # each model that needs it says why it can't be served
        named(path)
