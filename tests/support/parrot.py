"""A whole backend in one file: a model that repeats what it is told."""

from collections.abc import AsyncGenerator
from typing import Literal

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, Usage


class ParrotConfig(ModelConfig):
    """The keys of such a model: those that all models have, and `times`."""

    backend: Literal["parrot"]
    times: int = 1
    """How often the message is repeated."""


class ParrotBackend:
    """One model. Libraries that it needs are imported here, inside the replica."""

    def __init__(self, config: ParrotConfig) -> None:
        self._config = config

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Repeats the last message, word by word."""
        request = request.within({"max_tokens", "max_completion_tokens"})  # refuses the others
        told = str(request.messages[-1].get("content")).split()
        words = told * self._config.times
        said = words[: request.output_limit]
        for word in said:
            yield Chunk(text=f"{word} ")
        yield Chunk(
            finish_reason="stop" if said == words else "length",
            usage=Usage(prompt_tokens=len(told), completion_tokens=len(said)),
        )

    async def context_window(self) -> int | None:
        """Tokens that prompt and answer may have together; None if there is no limit."""
        return self._config.context_window

    async def check_health(self) -> None:
        """Raises if this replica can't answer any more and must be replaced."""

    async def aclose(self) -> None:
        """Releases connections and memory."""
