"""One model in a replica: its backend, its provider and how its answers are sent."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, Embedder, EmbeddingRequest, Embeddings
from deployments.errors import Unreachable
from deployments.registry import load
from deployments.replicas.measuring import measured, measured_embeddings
from deployments.replicas.reachability import Provider, Tries
from deployments.replicas.sending import Sender, Streams
from deployments.scaling.work import WorkMeter


class ServedModel:
    """A model that answers.

    Args:
        config: the model's.
        tries: of URLs, if other models of the replica share them.
        streams: the replica's, likewise.
        meter: measures its work, if it is scaled by that.

    Raises:
        Exception: its backend can't be made; the message says why.
    """

    def __init__(
        self,
        config: ModelConfig,
        tries: Tries | None = None,
        streams: Streams | None = None,
        meter: WorkMeter | None = None,
    ) -> None:
        self._config = config
        self._backend = load(config)
        self._provider = Provider(config, tries)
        self._sender = Sender(min(config.timeout, config.first_token_timeout), streams)
        self._meter = meter

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` in as few messages as possible; see `Sender`."""
        chunks = measured(self._backend.chat(request), request, self._config.backend)
        if self._meter is not None:
            chunks = self._meter.watch(chunks, request)
        async with aclosing(self._sender.send(chunks, request)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except Unreachable as error:
                self._provider.explain(error)
                raise
        self._provider.reached()

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """See `Embedder.embed`."""
        assert isinstance(self._backend, Embedder), "the registry says which backends embed"
        embeddings = self._backend.embed(request)
        try:
            found = await measured_embeddings(embeddings, request.model, self._config.backend)
        except Unreachable as error:
            self._provider.explain(error)
            raise
        self._provider.reached()
        return found

    async def unreachable(self) -> str:
        """Why the model's provider can't be reached; "" if it can, as far as known."""
        return await self._provider.unreachable()

    async def context_window(self) -> int | None:
        """See `Backend.context_window`."""
        return await self._backend.context_window()

    async def check_health(self) -> None:
        """See `Backend.check_health`."""
        await self._backend.check_health()

    async def aclose(self) -> None:
        """See `Backend.aclose`."""
        await self._backend.aclose()
