"""Promise: the private parts of Ray that the commands rely on exist and mean what we think."""

import inspect
from collections.abc import Mapping

import pytest
from ray import serve as rayserve
from ray.serve._private import constants
from ray.serve._private.client import ServeControllerClient

from ops.load.cluster import SETTINGS
from ops.local.ray_settings import FAST
from ops.ray_internals import available_cpus, available_gpus


def test_the_available_cpus_are_counted() -> None:
    assert available_cpus() >= 1


def test_the_available_gpus_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert available_gpus() == 0


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
