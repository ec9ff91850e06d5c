"""What a caller of the embedder keeps of its answers."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from deployments.store.evidence import Floats32

_PIECE = 16  # texts in a call: others wait behind it no longer than these take
_PIECES = 4  # calls for long lists that are out at once


@dataclass(eq=False)
class _Piece:
    """Texts that are embedded by one call, for everyone who waits for some of them."""

    texts: dict[bytes, str]
    waiting: int = 0
    task: "asyncio.Task[dict[bytes, Floats32]]" = field(init=False)


class CachedEmbedder:
    """Embeds lists of texts: recent ones from memory, and one that is on its way only once.

    Belongs to one event loop.

    Args:
        embed: texts to embeddings (b, d); gets few texts at a time.
        size: how many embeddings are kept, the last used.
    """

    def __init__(
        self, embed: Callable[[list[str]], Awaitable[Floats32]], size: int = 10_000
    ) -> None:
        self._embed = embed
        self._size = size
        self._recent: OrderedDict[bytes, Floats32] = OrderedDict()
        self._coming: dict[bytes, _Piece] = {}
        self._turn = asyncio.Semaphore(_PIECES)

    async def __call__(self, texts: Sequence[str]) -> Floats32:
        """Embeddings (len(texts), d). Raises whatever `embed` raises, and keeps no error."""
        if not texts:
            return await self._embed([])
        keys = [_key(text) for text in texts]
        found = {key: self._recent[key] for key in keys if key in self._recent}
        for key in found:
            self._recent.move_to_end(key)
        self._send({k: text for k, text in zip(keys, texts, strict=True) if k not in found})
        pieces = {self._coming[key] for key in keys if key not in found}
        for piece in pieces:
            piece.waiting += 1
        try:
            for piece in pieces:
                # Not for this caller alone: if it goes, the others still wait.
                found |= await asyncio.shield(piece.task)
        finally:
            for piece in pieces:
                piece.waiting -= 1
                if not piece.waiting:
                    self._forget(piece)
                    piece.task.cancel()
        return np.stack([found[key] for key in keys])

    def _send(self, texts: dict[bytes, str]) -> None:
        """Has what is not yet on its way embedded."""
        missing = [(key, text) for key, text in texts.items() if key not in self._coming]
        # Long lists wait for each other; what is asked alone does not wait behind them.
        turn = self._turn if len(missing) > _PIECE else nullcontext()
        for start in range(0, len(missing), _PIECE):
            piece = _Piece(dict(missing[start : start + _PIECE]))
            self._coming |= dict.fromkeys(piece.texts, piece)
            piece.task = asyncio.create_task(self._fetch(piece, turn))
            # An error that nobody is left to hear is no news.
            piece.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _fetch(
        self, piece: _Piece, turn: AbstractAsyncContextManager[None]
    ) -> dict[bytes, Floats32]:
        try:
            async with turn:
                embeddings = await self._embed(list(piece.texts.values()))
        finally:
            self._forget(piece)
        rows = (row.copy() for row in embeddings)  # of which some may stay when others go
        found = dict(zip(piece.texts, rows, strict=True))
        self._recent |= found
        while len(self._recent) > self._size:
            self._recent.popitem(last=False)
        return found

    def _forget(self, piece: _Piece) -> None:
        for key in piece.texts:
            if self._coming.get(key) is piece:
                del self._coming[key]


def _key(text: str) -> bytes:
    """So that what is kept of a text does not grow with it."""
    return hashlib.sha256(text.encode(errors="replace")).digest()
