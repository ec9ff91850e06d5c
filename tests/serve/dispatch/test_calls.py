"""Promise: a version of Ray without the private method that we call is noticed at the start."""

import runpy

import pytest
from ray.serve.handle import _DeploymentResponseBase

from serve.dispatch import calls


def test_the_router_does_not_start_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_DeploymentResponseBase, "_fetch_future_result_async")
    with pytest.raises(RuntimeError, match="_fetch_future_result_async"):
        runpy.run_path(calls.__file__)
