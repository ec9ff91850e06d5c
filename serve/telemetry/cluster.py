"""What Ray knows of the whole application: its replicas and the cluster's nodes."""

from dataclasses import dataclass
from typing import Any

import ray
from prometheus_client.core import GaugeMetricFamily, Metric

from deployments.telemetry.instruments import OTHER
from serve.availability.replicas import Deployment
from serve.ray_internals import application_details

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
    "Whether the scrape has all that it could: the samples of all `replicas`, or else those of one "
    "router alone; and what Ray knows of the `cluster`.",
    ("part",),
)
KNOWN = (REPLICAS, NODES, COMPLETE)


def replicas(application: str) -> Metric:
    """How many replicas each deployment wants and has, from Ray Serve's controller."""
    metric = REPLICAS.family()
    details = application_details(application) or {"deployments": {}}
    counts: dict[str, list[int]] = {}
    for index, (name, each) in enumerate(details["deployments"].items()):
        total = counts.setdefault(name if index < _MOST_DEPLOYMENTS else OTHER, [0] * len(STATES))
        for column, count in enumerate(_counts(each)):
            total[column] += count
    for name, total in counts.items():
        for state, count in zip(STATES, total, strict=True):
            metric.add_metric((name, state), count)
    return metric


def nodes() -> Metric:
    """How many nodes the cluster has."""
    known = ray.nodes()  # type: ignore[no-untyped-call]  # Ray's
    metric = NODES.family()
    metric.add_metric(("alive",), sum(bool(node["Alive"]) for node in known))
    return metric


def _counts(details: dict[str, Any]) -> tuple[int, int, int, int]:
    found = Deployment.read(details)
    return details["target_num_replicas"], found.running, found.starting, found.stopping
