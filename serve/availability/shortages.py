"""Which replicas wait for room in the cluster, what they need and what there is.

Ray Serve says so only after half a minute, and doesn't say what the whole cluster has.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray._private.worker import global_worker
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.serve._private.common import ReplicaID, ReplicaState
from ray.serve.context import _get_global_client
from ray.util import placement_group_table

Resources = Mapping[str, float]

_WAITING = ("PENDING", "RESCHEDULING")
_DECIMALS = 4  # Ray counts in ten thousandths of a CPU or GPU


def shortages(application: str) -> dict[str, str]:
    """What is missing, for each deployment that has a replica without room."""
    waiting = _plain_replicas(application) | _engines(application)
    if not waiting:
        return {}
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    return {name: shortage(bundles, total, free) for name, bundles in waiting.items()}


def shortage(bundles: Sequence[Resources], total: Resources, free: Resources) -> str:
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
    how = (
        f"bundles: {len(bundles)}; on one node, of the largest: {on_one_node}"
        if len(bundles) > 1
        else "all on one node"
    )
    return f"waits for room for a replica, which needs {'; '.join(amounts)} ({how})"


def _engines(application: str) -> dict[str, list[Resources]]:
    """The bundles without a node, for each deployment that has a placement group waiting."""
    return {
        replica.deployment_id.name: _unplaced(group)
        for group in placement_group_table().values()
        if group["state"] in _WAITING
        and (replica := _replica(group["name"]))
        and replica.deployment_id.app_name == application
    }


def _plain_replicas(application: str) -> dict[str, list[Resources]]:
    """What a replica needs, for each deployment that has one waiting for room.

    A replica without a node may also be waiting for its process to start, which takes long on a
    busy machine. To tell the two apart, its resources are looked up in Ray's unmet demands.
    """
    client = _get_global_client()
    details = client and client.get_serve_details()["applications"].get(application)
    unplaced = {
        name: _rounded(deployment["required_resources"])
        for name, deployment in (details["deployments"] if details else {}).items()
        if any(_has_no_node(replica) for replica in deployment["replicas"])
        and not deployment["deployment_config"].get("placement_group_bundles")
    }
    if not unplaced:
        return {}
    gcs = global_worker.gcs_client  # type: ignore[attr-defined]  # set when it connects
    state = get_cluster_resource_state(gcs)
    unmet = [
        _rounded(request.request.resources_bundle) for request in state.pending_resource_requests
    ]
    return {name: [needed] for name, needed in unplaced.items() if needed in unmet}


def _has_no_node(replica: Mapping[str, Any]) -> bool:
    return replica["state"] == ReplicaState.STARTING and not replica.get("node_id")


def _rounded(resources: Resources) -> dict[str, float]:
    return {name: round(amount, _DECIMALS) for name, amount in resources.items() if amount}


def _replica(name: str) -> ReplicaID | None:
    """The replica that a placement group of this name is for."""
    return ReplicaID.from_full_id_str(name) if ReplicaID.is_full_id_str(name) else None


def _unplaced(group: Mapping[str, Any]) -> list[Resources]:
    nodes = group["bundles_to_node_id"]
    return [bundle for index, bundle in group["bundles"].items() if not nodes[index]]
