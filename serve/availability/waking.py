"""Starts models that are scaled to zero while other models answer."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray.serve.handle import DeploymentHandle

# Seconds for an engine to start. If it takes longer, the next request wakes it again.
_PATIENCE_S = 600.0


class Waker:
    """Makes Ray Serve start a replica by calling it, with one call per model at a time."""

    def __init__(self, handles: Mapping[str, DeploymentHandle[Any]]) -> None:
        # A method that every replica has and that costs little.
        self._calls = {
            name: handle.options(method_name="check_health").remote
            for name, handle in handles.items()
        }
        self._waking: dict[str, asyncio.Task[None]] = {}

    def wake(self, name: str) -> None:
        """Starts waking a model and returns at once."""
        if name not in self._waking:
            self._waking[name] = asyncio.create_task(self._wake(name))

    async def _wake(self, name: str) -> None:
        try:
            with suppress(Exception):  # a replica that fails to start is reported by Availability
                response = self._calls[name]()
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        await response
                finally:
                    response.cancel()  # type: ignore[no-untyped-call]
        finally:
            del self._waking[name]
