"""Answers a scrape: the samples of all replicas together, and what Ray knows of the application."""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf

from prometheus_client.core import Metric
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
        self._reading: asyncio.Future[list[Metric]] | None = None

    async def text(self) -> bytes:
        """All metrics, in Prometheus' text format, a second old at most."""
        async with self._one_at_a_time:
            if time.monotonic() - self._at > _FRESH_S:
                (samples, all_replicas), known = await asyncio.gather(
                    self._samples(), self._cluster()
                )
                complete = cluster.COMPLETE.family()
                complete.add_metric(("replicas",), all_replicas)
                complete.add_metric(("cluster",), bool(known))
                self._text = samples + await asyncio.to_thread(text_of, [*known, complete])
                self._at = time.monotonic()
        return self._text

    async def _samples(self) -> tuple[bytes, bool]:
        """The samples of all replicas and True, or else those of this one and False."""
        try:
            text: bytes = await self._actor.call("text")
        except ActorUnavailable as error:
            logger.warning("only this router's metrics are shown: %s", error)
            return await asyncio.to_thread(own_text), False
        return text, True

    async def _cluster(self) -> list[Metric]:
        """What Ray knows; nothing if it doesn't answer in time."""
        application = rayserve.get_replica_context().app_name
        if self._reading is None or self._reading.done():
            loop = asyncio.get_running_loop()
            self._reading = loop.run_in_executor(self._reader, _read, application)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await asyncio.shield(self._reading)
        except Exception as error:  # noqa: BLE001 - whatever it is, the samples are shown
            logger.warning("replicas and nodes are not shown: %s", error or type(error).__name__)
            return []


def _read(application: str) -> list[Metric]:
    return [cluster.replicas(application), cluster.nodes()]


def own_text() -> bytes:
    """The samples of this process alone."""
    own = Collection()
    own.push(replica_name(), samples_of(REGISTRY))
    return own.text()
