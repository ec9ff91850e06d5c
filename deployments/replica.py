"""Puts Ray Serve on a backend: the deployment that every configured model becomes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from ray import serve as rayserve
from ray.serve.deployment import Application

from deployments.config import ModelConfig
from deployments.contract import ChatRequest, Chunk, merge
from deployments.errors import ProviderError
from deployments.registry import load

# Seconds that a replica which is to go has for the answers that it is writing.
GRACE_S = 120.0
# A backend that runs ahead of its reader by this many chunks waits for it.
_READ_AHEAD = 1024


class Replica:
    """One replica of one model."""

    def __init__(self, config: ModelConfig) -> None:
        self._backend = load(config)
        # Often enough for the router to see that an answer which it waits for whole goes on.
        self._whole_pause = config.timeout / 4

    async def chat(self, request: ChatRequest) -> AsyncGenerator[Chunk, None]:
        """Answers `request`: streamed, as it is written; whole, in as few chunks as may be."""
        pause = 0 if request.stream else self._whole_pause
        async with (
            aclosing(self._backend.chat(request)) as chunks,
            aclosing(coalesce(chunks, pause)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def check_health(self) -> None:
        """Called by Ray Serve; a replica that raises is replaced."""
        await self._backend.check_health()

    async def __del__(self) -> None:
        # A replica whose constructor raised has no backend.
        if hasattr(self, "_backend"):
            await self._backend.aclose()


async def coalesce(
    chunks: AsyncGenerator[Chunk, None], pause: float
) -> AsyncGenerator[Chunk, None]:
    """Joins chunks, since each item costs a message between processes.

    Args:
        chunks: what the backend writes.
        pause: seconds to wait for more before an item is sent. With 0 the first leaves at once,
            and what came while it was being sent leaves as one.
    """
    queue: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue(_READ_AHEAD)

    async def read() -> None:
        try:
            async for chunk in chunks:
                await queue.put(chunk)
            await queue.put(None)
        except asyncio.CancelledError:
            # Of a library's own making, perhaps: then the reader still waits.
            with suppress(asyncio.QueueFull):
                queue.put_nowait(ProviderError("the backend gave up"))
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the reader
            await queue.put(error)

    reading = asyncio.create_task(read())
    try:
        while True:
            items = [await queue.get()]
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    while isinstance(items[-1], Chunk):
                        items.append(await queue.get())
            if ready := [item for item in items if isinstance(item, Chunk)]:
                yield merge(ready)
            if items[-1] is None:
                return
            if isinstance(items[-1], Exception):
                raise items[-1]
    finally:
        # Only when nothing reads it any more can the backend's stream be closed.
        reading.cancel()
        await asyncio.wait([reading])


def deploy(config: ModelConfig, deployment_name: str) -> Application:
    """The Ray Serve application node for one model."""
    options: dict[str, Any] = {
        "name": deployment_name,
        "ray_actor_options": config.ray_actor_options,
        "max_ongoing_requests": config.max_ongoing_requests,
        # As many again may wait, for each router replica; beyond it the caller is told at once.
        "max_queued_requests": config.max_ongoing_requests,
        "graceful_shutdown_timeout_s": GRACE_S,
    }
    if config.autoscaling is not None:
        options["autoscaling_config"] = {
            # Ray's default of 2 is for one request at a time; a replica here answers many at once.
            "target_ongoing_requests": max(1, config.max_ongoing_requests // 2),
            **config.autoscaling.model_dump(exclude_unset=True),
        }
    return rayserve.deployment(**options)(Replica).bind(config)
