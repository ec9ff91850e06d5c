"""What Ray knows of the whole application: its replicas and the cluster's nodes."""

from typing import Any

import ray
from prometheus_client.core import GaugeMetricFamily, Metric

from deployments.telemetry.instruments import OTHER
from serve.availability.replicas import Deployment
from serve.ray_internals import application_details

STATES = ("wanted", "running", "starting", "stopping")
_MOST_DEPLOYMENTS = 500  # the others together are "other"


def replicas(application: str) -> Metric:
    """How many replicas each deployment wants and has, from Ray Serve's controller."""
    metric = GaugeMetricFamily("llm_replicas", REPLICAS, labels=("deployment", "state"))
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
    metric = GaugeMetricFamily("llm_nodes", NODES, labels=("state",))
    metric.add_metric(("alive",), sum(bool(node["Alive"]) for node in known))
    return metric


def _counts(details: dict[str, Any]) -> tuple[int, int, int, int]:
    found = Deployment.read(details)
    return details["target_num_replicas"], found.running, found.starting, found.stopping


REPLICAS = "Replicas of a deployment: wanted by its scaling, running, starting and stopping."
NODES = "Nodes of the Ray cluster."
