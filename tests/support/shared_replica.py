"""A shared replica without Ray Serve."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deployments.replicas.shared import SharedReplica


class _Replica(SharedReplica):
    def __del__(self) -> None:  # type: ignore[override]  # Ray Serve would await it
        pass


@asynccontextmanager
async def shared_replica() -> AsyncIterator[SharedReplica]:
    """Closes it at the end, as Ray Serve does."""
    replica = _Replica()
    try:
        yield replica
    finally:
        await replica.close()
