"""The encoder as a Ray Serve deployment, and what a caller keeps of its answers."""

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
from ray import serve as rayserve
from ray.serve.deployment import Application

from deployments.config import Autoscaling
from deployments.store.evidence import Floats32

EMBEDDER = "Embedder"

_TOGETHER = 32  # texts that are embedded together; a call that passes it is the last
_ONGOING = 64  # calls in a replica, those that wait for the next batch with them
_QUEUED = 1024  # calls of each caller that wait outside of the replicas; more are refused
_PIECE = 16  # texts in a call: others wait behind it no longer than these take
_PIECES = 4  # calls for long lists that are out at once


class Embedder:
    """One replica, on one core: Ray lets no library of an actor with less than two take more.

    What comes while a batch is embedded is the next batch, so that nothing waits for a batch to
    fill. (Ray Serve's own batching waits a set time, also for a query that is alone.)
    """

    def __init__(self, name: str) -> None:
        from deployments.embedding.encoder import Encoder

        self._encoder = Encoder(name)
        self._encoder(["Loads the model before the first request comes."])
        self._waiting: deque[tuple[list[str], asyncio.Future[Floats32]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, texts: list[str]) -> Floats32:
        """Embeddings (len(texts), d), each of length 1."""
        answer: asyncio.Future[Floats32] = asyncio.get_running_loop().create_future()
        self._waiting.append((texts, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await answer

    async def check_health(self) -> None:
        """Called by Ray Serve; a replica that raises, or is silent for long, is replaced."""
        await asyncio.to_thread(self._encoder, ["Is the model there?"])

    async def _work(self) -> None:
        while self._waiting:
            calls = self._next()
            texts = [text for call, _ in calls for text in call]
            try:
                embeddings = await asyncio.to_thread(self._encoder, texts)
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the callers
                for _, answer in calls:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            start = 0
            for call, answer in calls:
                if not answer.done():
                    answer.set_result(embeddings[start : start + len(call)])
                start += len(call)

    def _next(self) -> list[tuple[list[str], asyncio.Future[Floats32]]]:
        """The calls of the next batch: the first that wait, without those given up."""
        calls, texts = [], 0
        while self._waiting and texts < _TOGETHER:
            call = self._waiting.popleft()
            if not call[1].done():
                calls.append(call)
                texts += len(call[0])
        return calls


def deploy_embedder(name: str, autoscaling: Autoscaling) -> Application:
    """The Ray Serve application node for an embedding model, by its name."""
    return rayserve.deployment(
        name=EMBEDDER,
        ray_actor_options={"num_cpus": 0.25},
        max_ongoing_requests=_ONGOING,
        max_queued_requests=_QUEUED,
        autoscaling_config={
            "target_ongoing_requests": _ONGOING // 8,
            **autoscaling.model_dump(exclude_unset=True),
        },
    )(Embedder).bind(name)


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
