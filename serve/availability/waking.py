"""Starts models that are scaled to zero while other models answer."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from serve.handles import Handle

# Seconds for an engine to start. If it takes longer, the next request wakes it again.
_PATIENCE_S = 600.0


class Waker:
    """Makes Ray Serve start a replica by calling it, with one call per model at a time."""

    def __init__(self, handles: Mapping[str, Handle]) -> None:
        self._handles = handles
        self._waking: dict[str, asyncio.Task[None]] = {}

    def wake(self, name: str) -> None:
        """Starts waking a model and returns at once."""
        if name not in self._waking:
            self._waking[name] = asyncio.create_task(self._wake(name))

    async def _wake(self, name: str) -> None:
        try:
            with suppress(Exception):  # a replica that fails to start is reported by Availability
                async with asyncio.timeout(_PATIENCE_S):
                    await self._handles[name].wake()
        finally:
            del self._waking[name]
