"""Promise: the private parts of Ray that the commands rely on exist and mean what we think."""

import inspect
import ipaddress
from collections.abc import Mapping
from importlib import import_module

import pytest
from ray import serve as rayserve
from ray.autoscaler.node_provider import NodeProvider
from ray.serve._private import constants
from ray.serve._private.client import ServeControllerClient

from ops.load.cluster import SETTINGS
from ops.local.ray_settings import FAST
from ops.ray_internals import FAKE_NODES, available_cpus, node_address


def test_the_available_cpus_are_counted() -> None:
    assert available_cpus() >= 1


def test_an_application_can_be_deleted_without_blocking() -> None:
    assert inspect.signature(rayserve.delete).parameters["_blocking"].default is True


def test_applications_can_be_deployed_without_the_dashboard() -> None:
    for method in ("deploy_apps", "get_serve_details"):
        assert callable(getattr(ServeControllerClient, method))
    assert list(inspect.signature(ServeControllerClient.deploy_apps).parameters)[1] == "config"


@pytest.mark.parametrize("settings", [FAST, SETTINGS], ids=["run", "growing"])
def test_ray_serve_knows_our_settings(settings: Mapping[str, str]) -> None:
    of_serve = {name for name in settings if name.startswith("RAY_SERVE_")}
    assert {name for name in of_serve if not hasattr(constants, name)} == set()


def test_nodes_on_this_machine_can_be_made_for_any_address() -> None:
    module, name = FAKE_NODES.rsplit(".", 1)
    provider = getattr(import_module(module), name)
    assert issubclass(provider, NodeProvider)
    assert "gcs_address" in inspect.getsource(provider)
    ipaddress.ip_address(node_address())
