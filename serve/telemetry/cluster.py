"""What Ray knows of the whole application: its replicas and the cluster's nodes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from prometheus_client.core import GaugeMetricFamily, Metric

from deployments.embedding.embedder import EMBEDDER
from deployments.telemetry.bounds import OTHER
from deployments.telemetry.reporting import name_of
from serve.availability.replicas import Deployment
from serve.ray_internals import ReplicaState, application_details

STATES = ("wanted", "running", "starting", "stopping")
_MOST_DEPLOYMENTS = 500  # the others together are "other"


@dataclass(frozen=True)
class Known:
    """A metric that is read for each scrape, rather than recorded."""

    name: str
    documentation: str
    labels: tuple[str, ...]

    def family(self) -> GaugeMetricFamily:
        """The metric without samples."""
        return GaugeMetricFamily(self.name, self.documentation, labels=self.labels)


REPLICAS = Known(
    "llm_replicas",
    "Replicas of a deployment: `wanted` by its scaling, `running`, `starting` and `stopping`.",
    ("deployment", "state"),
)
NODES = Known("llm_nodes", "Nodes of the Ray cluster that are `alive`.", ("state",))
COMPLETE = Known(
    "llm_metrics_complete",
    "Whether the scrape has all that it should: samples of all running `replicas`, each from the "
    "last 30 seconds; and what Ray knows of the `cluster`.",
    ("part",),
)
KNOWN = (REPLICAS, NODES, COMPLETE)


@dataclass(frozen=True)
class Found:
    """What Ray knows.

    Attributes:
        metrics: how many replicas and nodes there are.
        reporting: the replicas that run, of deployments that report samples, by their names in the
            label `replica`.
        replicas: how many each deployment has, in the order of `STATES`.
    """

    metrics: tuple[Metric, ...]
    reporting: frozenset[str]
    replicas: Mapping[str, tuple[int, int, int, int]]


def find(application: str) -> Found:
    """Asks Ray Serve's controller, and Ray."""
    deployments = (application_details(application) or {}).get("deployments", {})
    replicas = {name: _counts(each) for name, each in deployments.items()}
    return Found((_replicas(replicas), _nodes()), _reporting(deployments), replicas)


def _replicas(replicas: Mapping[str, tuple[int, int, int, int]]) -> Metric:
    metric = REPLICAS.family()
    counts: dict[str, list[int]] = {}
    for index, (name, each) in enumerate(replicas.items()):
        total = counts.setdefault(name if index < _MOST_DEPLOYMENTS else OTHER, [0] * len(STATES))
        for column, count in enumerate(each):
            total[column] += count
    for name, total in counts.items():
        for state, count in zip(STATES, total, strict=True):
            metric.add_metric((name, state), count)
    return metric


def _nodes() -> Metric:
    known = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
    metric = NODES.family()
    metric.add_metric(("alive",), sum(bool(node["Alive"]) for node in known))
    return metric


def _reporting(deployments: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(
        name_of(name, replica["replica_id"])
        for name, each in deployments.items()
        if name != EMBEDDER  # which has no metrics
        for replica in each["replicas"]
        if replica["state"] == ReplicaState.RUNNING
    )


def _counts(details: dict[str, Any]) -> tuple[int, int, int, int]:
    found = Deployment.read(details)
    return details["target_num_replicas"], found.running, found.starting, found.stopping
