"""The collection of all replicas' samples, in one actor."""

from collections.abc import Sequence

import ray

from deployments.telemetry.samples import Samples, Series
from serve.telemetry.collection import Collection
from serve.telemetry.live import Live, Reading, Report


# Ray Serve starts no router before this actor, so it must never wait for room.
@ray.remote(num_cpus=0)
class TelemetryActor(Collection):
    """`Collection` and `Live` as an actor, one per application."""

    def __init__(self) -> None:
        super().__init__()
        self._live = Live()

    async def push(  # type: ignore[override]
        self, replica: str, samples: Samples, report: Report | None = None
    ) -> None:
        """See `Collection.push`; routers have a report for `Live.push` besides."""
        super().push(replica, samples)
        if report is not None:
            self._live.push(replica, samples, report)

    async def scrape(self) -> tuple[bytes, frozenset[str]]:  # type: ignore[override]
        """See `Collection.scrape`."""
        return super().scrape()

    async def live(self, life: str, after: int) -> Reading:
        """See `Live.read`."""
        return self._live.read(life, after)

    async def totals(  # type: ignore[override]
        self, names: Sequence[str]
    ) -> dict[str, dict[Series, float]]:
        """See `Collection.totals`."""
        return super().totals(names)
