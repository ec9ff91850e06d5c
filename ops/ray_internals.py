"""The private parts of Ray that the commands rely on: here only, each with the reason.

`tests/ops/test_ray_internals.py` fails if a version of Ray no longer has them.
"""

from typing import Any

from ray import serve as rayserve
from ray._private.utils import get_num_cpus
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema


def available_cpus() -> float:
    """The CPUs that a Ray started on this machine would have.

    Ray also looks at the container's limits, and no public function tells without starting Ray.
    """
    return get_num_cpus()


def start_deleting(application: str) -> None:
    """Deletes a Serve application without waiting for its requests to finish.

    `serve.delete` itself waits, with no limit of our choosing.
    """
    rayserve.delete(application, _blocking=False)


def deploy_applications(applications: list[dict[str, Any]]) -> None:
    """Deploys applications as `serve deploy` does with a Serve config file, without waiting.

    `serve deploy` itself needs Ray's dashboard.

    Args:
        applications: `ray.serve.schema.ServeApplicationSchema` in plain values.
    """
    client = _get_global_client()
    assert client is not None, "Serve runs"
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": applications}))


def applications() -> dict[str, Any]:
    """`ray.serve.schema.ApplicationDetails` of each application, by name, in plain values.

    `serve.status()` leaves out how they were deployed.
    """
    client = _get_global_client()
    details: dict[str, Any] = client.get_serve_details()["applications"] if client else {}
    return details
