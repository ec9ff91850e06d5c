"""The one promise of every backend: a chat request in, a stream of chunks out."""

from collections.abc import AsyncGenerator
from typing import Protocol

from deployments.answer import Chunk, ToolCallDelta, Usage, merge
from deployments.request import ChatRequest

__all__ = ["Backend", "ChatRequest", "Chunk", "ToolCallDelta", "Usage", "merge"]


class Backend(Protocol):
    """A model that answers. A plain class: Ray is put on in `deployments/deploy.py`.

    The constructor takes the model's config, wakes the heavy libraries and raises what must keep
    a wrong config from serving. All methods run on one event loop.
    """

    def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request` as a stream of chunks, also when the caller wants it whole.

        The stream ends with exactly one finish reason and one usage. Closing the iterator early
        (the client has gone) stops the generation. Raises LLMError only.
        """
        ...

    async def context_window(self) -> int | None:
        """Tokens that prompt and answer have together; None where nobody says. Raises LLMError
        where it can't be found out now."""
        ...

    async def check_health(self) -> None:
        """Raises if this replica can't answer any more and must be replaced."""
        ...

    async def aclose(self) -> None:
        """Frees what the backend holds."""
        ...
