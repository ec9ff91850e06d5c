"""The private parts of Ray by which a cluster on this machine grows: here only.

`tests/ops/load/test_ray_internals.py` fails if a version of Ray no longer has them.
"""

from ray._private.services import get_node_ip_address
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FakeMultiNodeProvider,
)

# A provider of nodes that are processes on this machine, and the node id that it expects of a head.
FAKE_NODES = f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}"
FAKE_HEAD = FAKE_HEAD_NODE_ID


def node_address() -> str:
    """The IP address under which a Ray that is started here is known to its other nodes."""
    address: str = get_node_ip_address()  # type: ignore[no-untyped-call]
    return address
