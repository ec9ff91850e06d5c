"""The collection of all replicas' samples, in one actor."""

import ray

from deployments.telemetry.samples import Samples
from serve.telemetry.collection import Collection


# Ray Serve starts no router before this actor, so it must never wait for room.
@ray.remote(num_cpus=0)
class TelemetryActor(Collection):
    """`Collection` as an actor, one per application."""

    async def push(self, replica: str, samples: Samples) -> None:  # type: ignore[override]
        """See `Collection.push`."""
        super().push(replica, samples)

    async def scrape(self) -> tuple[bytes, frozenset[str]]:  # type: ignore[override]
        """See `Collection.scrape`."""
        return super().scrape()
