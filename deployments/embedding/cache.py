"""A caller's cache of embeddings; texts already in flight are not sent a second time."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np

from deployments.store.evidence import Floats32

_PIECE = 16  # texts in a call: no other call waits longer than these take
_PIECES = 4  # calls for long lists in flight at once


@dataclass(eq=False)
class _Piece:
    """Texts embedded by one call, shared by all callers waiting for any of them."""

    texts: dict[bytes, str]
    waiting: int = 0
    task: "asyncio.Task[dict[bytes, Floats32]]" = field(init=False)


class CachedEmbedder:
    """Embeds texts: recent ones from memory, and equal ones in flight only once.

    Belongs to one event loop.

    Args:
        embed: texts to embeddings (b, d); called with a few texts at a time.
        size: how many embeddings to keep, the most recently used.
    """

    def __init__(
        self, embed: Callable[[list[str]], Awaitable[Floats32]], size: int = 10_000
    ) -> None:
        self._embed = embed
        self._size = size
        self._recent: OrderedDict[bytes, Floats32] = OrderedDict()
        self._in_flight: dict[bytes, _Piece] = {}
        self._slots = asyncio.Semaphore(_PIECES)

    async def __call__(self, texts: Sequence[str]) -> Floats32:
        """Embeddings (len(texts), d). Raises whatever `embed` raises; errors are not cached."""
        if not texts:
            return await self._called([])
        keys = [_key(text) for text in texts]
        found = {key: self._recent[key] for key in keys if key in self._recent}
        for key in found:
            self._recent.move_to_end(key)
        self._send({k: text for k, text in zip(keys, texts, strict=True) if k not in found})
        pieces = {self._in_flight[key] for key in keys if key not in found}
        for piece in pieces:
            piece.waiting += 1
        try:
            for piece in pieces:
                # Shielded: if this caller is cancelled, others may still be waiting.
                found |= await asyncio.shield(piece.task)
        finally:
            for piece in pieces:
                piece.waiting -= 1
                if not piece.waiting:
                    self._forget(piece)
                    piece.task.cancel()
        return np.stack([found[key] for key in keys])

    def recent(self, text: str) -> Floats32 | None:
        """The embedding (d,) of a text that was embedded lately; None if it was not."""
        key = _key(text)
        if key in self._recent:
            self._recent.move_to_end(key)
        return self._recent.get(key)

    def _send(self, texts: dict[bytes, str]) -> None:
        """Starts to embed the texts that are not in flight yet."""
        missing = [(key, text) for key, text in texts.items() if key not in self._in_flight]
        # Only long lists share the slots, so that a short one never waits behind them.
        slot = self._slots if len(missing) > _PIECE else nullcontext()
        for start in range(0, len(missing), _PIECE):
            piece = _Piece(dict(missing[start : start + _PIECE]))
            self._in_flight |= dict.fromkeys(piece.texts, piece)
            piece.task = asyncio.create_task(self._fetch(piece, slot))
            # Retrieves the error, so that asyncio does not warn if no caller is left.
            piece.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _fetch(
        self, piece: _Piece, slot: AbstractAsyncContextManager[None]
    ) -> dict[bytes, Floats32]:
        try:
            async with slot:
                embeddings = await self._called(list(piece.texts.values()))
        finally:
            self._forget(piece)
        rows = (row.copy() for row in embeddings)  # views would keep the whole batch in memory
        found = dict(zip(piece.texts, rows, strict=True))
        self._recent |= found
        while len(self._recent) > self._size:
            self._recent.popitem(last=False)
        return found

    async def _called(self, texts: list[str]) -> Floats32:
        """What `embed` gives. It may be cancelled although nobody here is: Ray Serve cancels the
        calls of a request that is given up, also those that others wait for by now."""
        try:
            return await self._embed(texts)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError("the call of the embedding model was cancelled") from None

    def _forget(self, piece: _Piece) -> None:
        for key in piece.texts:
            if self._in_flight.get(key) is piece:
                del self._in_flight[key]


def _key(text: str) -> bytes:
    """A key whose size doesn't grow with the text."""
    return hashlib.sha256(text.encode(errors="replace")).digest()
