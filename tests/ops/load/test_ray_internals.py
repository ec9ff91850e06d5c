"""Promise: the private parts of Ray by which a cluster here grows exist and mean what we think."""

import inspect
import ipaddress
from importlib import import_module

from ray.autoscaler.node_provider import NodeProvider

from ops.load.ray_internals import FAKE_NODES, node_address


def test_nodes_on_this_machine_can_be_made_for_any_address() -> None:
    module, name = FAKE_NODES.rsplit(".", 1)
    provider = getattr(import_module(module), name)
    assert issubclass(provider, NodeProvider)
    assert "gcs_address" in inspect.getsource(provider)
    ipaddress.ip_address(node_address())
