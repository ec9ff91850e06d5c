"""The private parts of Ray that the commands rely on: here only, each with the reason.

`tests/ops/test_ray_internals.py` fails if a version of Ray no longer has them.
"""

from ray import serve as rayserve
from ray._private.utils import get_num_cpus


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
