"""Wakes models that have scaled to zero, beside the requests that others answer meanwhile."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ray.serve.handle import DeploymentHandle

# For an engine to start. A model that takes longer is woken again by the next request for it.
_PATIENCE_S = 600.0


class Waker:
    """Calls a replica of a model, for which Ray Serve starts one; once for each model at a time."""

    def __init__(self, handles: Mapping[str, DeploymentHandle[Any]]) -> None:
        # All replicas have it, and it costs next to nothing.
        self._calls = {
            name: handle.options(method_name="check_health").remote
            for name, handle in handles.items()
        }
        self._waking: dict[str, asyncio.Task[None]] = {}

    def wake(self, name: str) -> None:
        """Wakes a model, without waiting for it."""
        if name not in self._waking:
            self._waking[name] = asyncio.create_task(self._wake(name))

    async def _wake(self, name: str) -> None:
        response = self._calls[name]()
        try:
            with suppress(Exception):  # that it fails to start is told by those who watch replicas
                async with asyncio.timeout(_PATIENCE_S):
                    await response
        finally:
            response.cancel()  # type: ignore[no-untyped-call]
            del self._waking[name]
