"""Which deployments lack room in the cluster for a replica: what it needs and what there is.

Ray Serve reports this only after half a minute, and never what the whole cluster has.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util import placement_group_table

from serve.ray_internals import (
    ReplicaState,
    application_details,
    deployment_of_placement_group,
    unmet_demands,
)

Resources = Mapping[str, float]

_WAITING = ("PENDING", "RESCHEDULING")  # states of a placement group
_DECIMALS = 4  # Ray counts in ten-thousandths of a CPU or GPU


def shortages(application: str) -> dict[str, str]:
    """For each deployment with a replica that finds no room, what is missing."""
    waiting = _plain_replicas(application) | _engines(application)
    if not waiting:
        return {}
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    return {name: shortage(bundles, total, free) for name, bundles in waiting.items()}


def shortage(bundles: Sequence[Resources], total: Resources, free: Resources) -> str:
    """Describes what one replica's bundles of resources need, next to what the cluster has."""
    needed: dict[str, float] = defaultdict(float)
    for bundle in bundles:
        for resource, amount in bundle.items():
            needed[resource] += amount
    amounts = ", ".join(
        f"{resource} {amount:g} (the cluster has {total.get(resource, 0):g}, "
        f"{free.get(resource, 0):g} of it free)"
        for resource, amount in sorted(needed.items())
    )
    largest = max(bundles, key=lambda bundle: sum(bundle.values()))
    on_one_node = ", ".join(f"{resource} {largest[resource]:g}" for resource in sorted(largest))
    where = (
        f"in {len(bundles)} bundles, of which the largest needs on one node: {on_one_node}"
        if len(bundles) > 1
        else "all on one node"
    )
    return f"waiting for room for a replica, which needs {amounts}, {where}"


def _engines(application: str) -> dict[str, list[Resources]]:
    """The bundles without a node, for each deployment with a placement group that waits."""
    waiting = {}
    for group in placement_group_table().values():
        if group["state"] in _WAITING:
            deployment = deployment_of_placement_group(group["name"])
            if deployment and deployment[0] == application:
                waiting[deployment[1]] = _unplaced(group)
    return waiting


def _plain_replicas(application: str) -> dict[str, list[Resources]]:
    """The resources of a replica, for each deployment with one that waits for room.

    A replica without a node may also be waiting for its process to start, which takes long on a
    busy machine. The two are told apart by looking its resources up in Ray's unmet demands.
    """
    details = application_details(application)
    unplaced = {
        name: _rounded(deployment["required_resources"])
        for name, deployment in (details["deployments"] if details else {}).items()
        if any(_has_no_node(replica) for replica in deployment["replicas"])
        and not deployment["deployment_config"].get("placement_group_bundles")
    }
    if not unplaced:
        return {}
    unmet = [_rounded(resources) for resources in unmet_demands()]
    return {name: [needed] for name, needed in unplaced.items() if needed in unmet}


def _has_no_node(replica: Mapping[str, Any]) -> bool:
    return replica["state"] == ReplicaState.STARTING and not replica.get("node_id")


def _rounded(resources: Resources) -> dict[str, float]:
    return {name: round(amount, _DECIMALS) for name, amount in resources.items() if amount}


def _unplaced(group: Mapping[str, Any]) -> list[Resources]:
    nodes = group["bundles_to_node_id"]
    return [bundle for index, bundle in group["bundles"].items() if not nodes[index]]
