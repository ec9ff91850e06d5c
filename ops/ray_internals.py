"""The private parts of Ray that the commands rely on: here only, each with the reason.

`tests/ops/test_ray_internals.py` fails if a version of Ray no longer has them.
"""

from typing import Any

from ray import serve as rayserve
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray._private.utils import get_num_cpus
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema


def available_cpus() -> float:
    """The CPUs that a Ray started on this machine would have.

    Ray also looks at the container's limits, and no public function tells without starting Ray.
    """
    return get_num_cpus()


def available_gpus() -> int:
    """The GPUs that a Ray started on this machine would have."""
    manager = get_accelerator_manager_for_resource("GPU")
    assert manager is not None, "Ray knows GPUs"
    visible = manager.get_current_process_visible_accelerator_ids()
    count = int(manager.get_current_node_num_accelerators())
    return count if visible is None else min(count, len(visible))


def start_deleting(application: str) -> None:
    """Deletes a Serve application without waiting for its requests to finish.

    `serve.delete` itself waits, with no limit of our choosing.
    """
    rayserve.delete(application, _blocking=False)


def deploy_applications(
    applications: list[dict[str, Any]], target_capacity: float | None = None
) -> None:
    """Deploys applications as `serve deploy` does with a Serve config file, without waiting.
    Applications deployed so before that are not among them are deleted.

    `serve deploy` itself needs Ray's dashboard.

    Args:
        applications: `ray.serve.schema.ServeApplicationSchema` in plain values.
        target_capacity: see `ray.serve.schema.ServeDeploySchema`.
    """
    client = _get_global_client()
    assert client is not None, "Serve runs"
    config = {"applications": applications, "target_capacity": target_capacity}
    client.deploy_apps(ServeDeploySchema.model_validate(config))


def serve_details() -> dict[str, Any]:
    """`ray.serve.schema.ServeInstanceDetails` in plain values; empty if Serve is not running.

    `serve.status()` leaves out how applications were deployed.
    """
    client = _get_global_client(raise_if_no_controller_running=False)
    return client.get_serve_details() if client else {}
