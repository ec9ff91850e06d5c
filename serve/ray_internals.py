"""The private parts of Ray that the router relies on: here only, each with the reason.

Ray may change them in any release. What can be checked without a cluster is checked at import, and
`tests/serve/test_ray_internals.py` holds the rest.
"""

from collections.abc import Mapping
from typing import Any

from ray._private.worker import global_worker
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.serve._private.client import ServeControllerClient
from ray.serve._private.common import DeploymentStatus, ReplicaID, ReplicaState
from ray.serve._private.constants import (
    RAY_SERVE_ENABLE_HA_PROXY,
    RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH,
)
from ray.serve._private.handle_options import DynamicHandleOptions
from ray.serve.config import HTTPOptions
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

from deployments.internals import require

__all__ = [
    "GRPC_MOST_BYTES",
    "HAPROXY_MODE",
    "DeploymentStatus",
    "ReplicaState",
    "answering",
    "application_details",
    "deployment_of_placement_group",
    "embedding",
    "http_options",
    "replica_assigned",
    "unmet_demands",
]

require(ServeControllerClient, "get_serve_details", "http_config")
require(DynamicHandleOptions, "_by_reference")
require(DeploymentResponseGenerator, "_fetch_future_result_async")

# Whether Ray Serve runs HAProxy, which changes the addresses that are listened on. No public API
# tells; only the environment variable does, and Ray parses it here.
HAPROXY_MODE: bool = RAY_SERVE_ENABLE_HA_PROXY
# The largest message between the router and a replica over gRPC. Replicas read the same variable.
GRPC_MOST_BYTES: int = RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH


def http_options() -> HTTPOptions | None:
    """Where Ray Serve's proxies listen; None if Serve is not running.

    `serve.status()` doesn't say.
    """
    client = _get_global_client()
    return client.http_config if client else None


def application_details(application: str) -> Mapping[str, Any] | None:
    """`ray.serve.schema.ApplicationDetails` as a dictionary; None if the controller has none.

    `serve.status()` reads the same, but validating it takes thirty times as long, which is too much
    for every router replica to do each second. It also leaves out the replicas.
    """
    client = _get_global_client()
    details = client.get_serve_details() if client else {}
    found: Mapping[str, Any] | None = details.get("applications", {}).get(application)
    return found


def answering(handle: DeploymentHandle[Any], *, over_grpc: bool) -> DeploymentHandle[Any]:
    """The handle for streamed calls of `chat`, with plain pickle, which suffices for the contract.

    Otherwise each message is an object in Ray's store, which costs several times as much but may
    have more than `GRPC_MOST_BYTES`. Ray Serve has an environment variable for this, but it counts
    where the application is built, not here.
    """
    return handle.options(
        stream=True,
        method_name="chat",
        _by_reference=not over_grpc,
        request_serialization="pickle",
        response_serialization="pickle",
    )


def embedding(handle: DeploymentHandle[Any]) -> DeploymentHandle[Any]:
    """The handle for calls of `embed`, whose vectors may have more than `GRPC_MOST_BYTES`."""
    return handle.options(
        method_name="embed",
        _by_reference=True,
        request_serialization="pickle",
        response_serialization="pickle",
    )


async def replica_assigned(response: DeploymentResponseGenerator[Any]) -> None:
    """Returns once a replica has accepted the request, before it has produced anything.

    Iterating over the response waits for both, and no public method tells them apart.
    """
    await response._fetch_future_result_async()


def deployment_of_placement_group(name: str) -> tuple[str, str] | None:
    """The application and deployment whose replica has a placement group of this name, if any.

    The name is the only link between the two.
    """
    if not ReplicaID.is_full_id_str(name):
        return None
    deployment = ReplicaID.from_full_id_str(name).deployment_id
    return deployment.app_name, deployment.name


def unmet_demands() -> list[dict[str, float]]:
    """The resources of each task and actor that Ray finds no room for.

    The autoscaler's SDK needs a GCS client, and only Ray's worker has one that is connected.
    """
    gcs = global_worker.gcs_client  # type: ignore[attr-defined]  # set when the worker connects
    state = get_cluster_resource_state(gcs)
    return [dict(demand.request.resources_bundle) for demand in state.pending_resource_requests]
