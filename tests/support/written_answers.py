"""Answers on their way, as `Dispatch` gives them."""

import time
from collections.abc import AsyncGenerator, Sequence
from typing import cast

from deployments.contract import Chunk
from deployments.errors import ProviderError
from serve.dispatch.dispatcher import Dispatch
from serve.dispatch.rescue import Rescue


class Written:
    """An answer of the model `small` on its way."""

    def __init__(self, chunks: Sequence[Chunk], fails: bool) -> None:
        self.model = "small"
        self.started = time.monotonic()
        self.rescues: list[Rescue] = []
        self._chunks = self._written(chunks, fails)
        self.aclose = self._chunks.aclose

    def __aiter__(self) -> AsyncGenerator[Chunk, None]:
        return self._chunks

    async def _written(self, chunks: Sequence[Chunk], fails: bool) -> AsyncGenerator[Chunk, None]:
        for chunk in chunks:
            yield chunk
        if fails:
            raise ProviderError("cut")


def written(
    chunks: Sequence[Chunk], fails: bool = False, rescues: Sequence[Rescue] = ()
) -> Dispatch:
    """An answer of these chunks, which then breaks off if it fails."""
    answer = Written(chunks, fails)
    answer.rescues.extend(rescues)
    return cast("Dispatch", answer)
