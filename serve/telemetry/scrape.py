"""Answers a scrape: the samples of all replicas together, and what Ray knows of the application."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf

from ray import serve as rayserve

from deployments.telemetry.instruments import REGISTRY
from deployments.telemetry.reporting import ACTOR_NAME, replica_name
from deployments.telemetry.samples import samples_of
from serve.actors import ActorClient, ActorUnavailable
from serve.telemetry import cluster
from serve.telemetry.collection import Collection, text_of

logger = logging.getLogger("ray.serve")

_TIMEOUT_S = 5.0
_FRESH_S = 1.0


class Scrapes:
    """A router replica's access to the metrics of all replicas.

    However many ask, the actor and Ray's controller are asked once a second at most.
    """

    def __init__(self) -> None:
        self._actor = ActorClient(ACTOR_NAME, timeout_s=_TIMEOUT_S)
        self._one_at_a_time = asyncio.Lock()
        self._text, self._at = b"", -inf
        # One thread and one call at a time: a controller that doesn't answer blocks nothing else.
        self._reader = ThreadPoolExecutor(1, "metrics")
        self._reading: asyncio.Future[cluster.Found] | None = None
        self._found: cluster.Found | None = None
        self._found_at = -inf

    async def text(self) -> bytes:
        """All metrics, in Prometheus' text format, a second old at most."""
        async with self._one_at_a_time:
            if time.monotonic() - self._at > _FRESH_S:
                (samples, heard), found = await asyncio.gather(self._samples(), self.cluster())
                complete = cluster.COMPLETE.family()
                complete.add_metric(("replicas",), found is not None and found.reporting <= heard)
                complete.add_metric(("cluster",), found is not None)
                known = [*(found.metrics if found else ()), complete]
                self._text = samples + await asyncio.to_thread(text_of, known)
                self._at = time.monotonic()
        return self._text

    async def _samples(self) -> tuple[bytes, frozenset[str]]:
        """The samples of all replicas, with these, or else those of this one alone."""
        try:
            samples: tuple[bytes, frozenset[str]] = await self._actor.call("scrape")
        except ActorUnavailable as error:
            logger.warning("only this router's metrics are shown: %s", error)
            return await asyncio.to_thread(_own)
        return samples

    async def cluster(self) -> cluster.Found | None:
        """What Ray knows, a second old at most; None if it doesn't answer in time."""
        if self._found is not None and time.monotonic() - self._found_at < _FRESH_S:
            return self._found
        application = rayserve.get_replica_context().app_name
        if self._reading is None or self._reading.done():
            loop = asyncio.get_running_loop()
            self._reading = loop.run_in_executor(self._reader, cluster.find, application)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                self._found = await asyncio.shield(self._reading)
                self._found_at = time.monotonic()
                return self._found
        except Exception as error:  # noqa: BLE001 - whatever it is, the samples are shown
            logger.warning("replicas and nodes are not shown: %s", error or type(error).__name__)
            return None


def _own() -> tuple[bytes, frozenset[str]]:
    """The samples of this replica alone."""
    own = Collection()
    own.push(replica_name(), samples_of(REGISTRY))
    return own.scrape()
