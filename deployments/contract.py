"""The one promise of every backend: a chat request in, a stream of chunks out. And that of those
that embed: texts in, vectors out."""

from collections.abc import AsyncGenerator
from typing import Protocol, runtime_checkable

from deployments.answer import Chunk, ToolCallDelta, Usage, merge
from deployments.embeddings import EmbeddingRequest, Embeddings
from deployments.request import ChatRequest

__all__ = [
    "Backend",
    "ChatRequest",
    "Chunk",
    "Embedder",
    "EmbeddingRequest",
    "Embeddings",
    "ToolCallDelta",
    "Usage",
    "merge",
]


class Backend(Protocol):
    """A model that answers. A plain class; `deployments/deploy.py` makes a Ray deployment of it.

    The constructor takes the model's config, imports heavy libraries, and raises if the model
    can't be served as configured. All methods run on one event loop.
    """

    def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` as a stream of chunks, even if the caller wants the answer whole.

        The stream has exactly one finish reason and one usage, at its end. Closing the iterator
        early, as when the client disconnects, stops the generation. Raises only LLMError.
        """
        ...

    async def context_window(self) -> int | None:
        """Tokens that prompt and answer may have together; None if unknown. Raises LLMError if it
        can't be found out now."""
        ...

    async def check_health(self) -> None:
        """Raises if this replica can't answer any more and must be replaced."""
        ...

    async def aclose(self) -> None:
        """Releases connections, memory and processes."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """A backend that also serves models with `task: embedding`, as its row in the registry says."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """The embeddings of the request's inputs. Cancelling the call stops it. Raises only
        LLMError."""
        ...
