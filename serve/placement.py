"""What the engines wait for that Ray finds no room for, beside what the cluster has.

Ray Serve says it half a minute later, and only what an engine needs, not what there is.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.serve._private.common import ReplicaID
from ray.util import placement_group_table

_WAITING = ("PENDING", "RESCHEDULING")


def shortages(application: str) -> dict[str, str]:
    """Of each deployment with a replica whose placement group waits for room, what is missing."""
    waiting = {
        replica.deployment_id.name: _unplaced(group)
        for group in placement_group_table().values()
        if group["state"] in _WAITING
        and (replica := _replica(group["name"]))
        and replica.deployment_id.app_name == application
    }
    if not waiting:
        return {}
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    return {name: shortage(bundles, total, free) for name, bundles in waiting.items()}


def shortage(
    bundles: Sequence[Mapping[str, float]], total: Mapping[str, float], free: Mapping[str, float]
) -> str:
    """What bundles of resources need together, beside what the cluster has of it."""
    needed: dict[str, float] = defaultdict(float)
    for bundle in bundles:
        for resource, amount in bundle.items():
            needed[resource] += amount
    amounts = [
        f"{resource} {amount:g}, of which the cluster has {total.get(resource, 0):g} "
        f"and {free.get(resource, 0):g} free"
        for resource, amount in sorted(needed.items())
    ]
    largest = max(bundles, key=lambda bundle: sum(bundle.values()))
    on_one_node = ", ".join(f"{resource} {largest[resource]:g}" for resource in sorted(largest))
    return (
        f"waits for room for a replica, which needs {'; '.join(amounts)} "
        f"(bundles: {len(bundles)}; on one node, of the largest: {on_one_node})"
    )


def _replica(name: str) -> ReplicaID | None:
    """The replica that a placement group of this name is for."""
    return ReplicaID.from_full_id_str(name) if ReplicaID.is_full_id_str(name) else None


def _unplaced(group: Mapping[str, Any]) -> list[Mapping[str, float]]:
    nodes = group["bundles_to_node_id"]
    return [bundle for index, bundle in group["bundles"].items() if not nodes[index]]
