"""Promise: when Ray drops a private part that the router relies on, a test says which."""

import asyncio
import runpy
import sys
from typing import Any

import pytest
from ray._private import worker
from ray.autoscaler.v2 import sdk
from ray.core.generated import autoscaler_pb2
from ray.serve import context
from ray.serve._private import common, constants
from ray.serve._private.client import ServeControllerClient
from ray.serve._private.handle_options import DynamicHandleOptions
from ray.serve.handle import DeploymentResponseGenerator

from serve import ray_internals


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (ServeControllerClient, "get_serve_details"),
        (ServeControllerClient, "http_config"),
        (DynamicHandleOptions, "_by_reference"),
        (DeploymentResponseGenerator, "_fetch_future_result_async"),
        (context, "_get_global_client"),
        (constants, "RAY_SERVE_ENABLE_HA_PROXY"),
        (constants, "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"),
        (common, "ReplicaID"),
        (common, "ReplicaState"),
        (common, "DeploymentStatus"),
        (sdk, "get_cluster_resource_state"),
    ],
)
def test_the_router_does_not_start_without_what_it_uses(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    owners = owner.__mro__ if isinstance(owner, type) else [owner]
    monkeypatch.delattr(next(each for each in owners if name in vars(each)), name)
    monkeypatch.delitem(sys.modules, "serve.ray_internals")
    with pytest.raises((RuntimeError, ImportError), match=name):
        runpy.run_module("serve.ray_internals")


def test_the_name_of_a_placement_group_tells_its_deployment() -> None:
    replica = common.ReplicaID("abc", common.DeploymentID(name="m", app_name="ours"))
    found = ray_internals.deployment_of_placement_group(replica.to_full_id_str())
    assert found == ("ours", "m")
    assert ray_internals.deployment_of_placement_group("of someone else") is None


def test_unmet_demands_are_read_from_the_state_of_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That Ray fills it in, `tests/cluster/test_placement.py` shows on a real cluster."""
    state: Any = autoscaler_pb2.ClusterResourceState()  # type: ignore[attr-defined]  # generated
    state.pending_resource_requests.add().request.resources_bundle["GPU"] = 2.0
    monkeypatch.setattr(worker.global_worker, "gcs_client", None, raising=False)
    monkeypatch.setattr(ray_internals, "get_cluster_resource_state", lambda _: state)
    assert ray_internals.unmet_demands() == [{"GPU": 2.0}]


def test_without_serve_there_are_no_options_and_no_details(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_internals, "_get_global_client", lambda: None)
    assert ray_internals.http_options() is None
    assert ray_internals.application_details("default") is None


async def test_a_request_counts_as_accepted_before_anything_was_produced() -> None:
    class Response(DeploymentResponseGenerator[Any]):
        def __init__(self) -> None:
            self._replica_result = None
            self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            self._replica_result_future = self.future
            self._is_router_running_in_separate_loop = False

        def __del__(self) -> None:
            pass

    response = Response()
    waiting = asyncio.ensure_future(ray_internals.replica_assigned(response))
    await asyncio.sleep(0)
    assert not waiting.done()
    response.future.set_result(None)
    await waiting
