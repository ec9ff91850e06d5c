"""Promise: a replica that ends reports its last metrics, also if closing what it had fails."""

from typing import Any

import pytest

from deployments.replicas import replica, shared
from deployments.replicas.hosted import HostedModels
from deployments.replicas.replica import Replica
from deployments.replicas.shared import SharedReplica
from serve.http.ingress import Router


class Reporter:
    """Remembers whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Broken:
    """A model that can't be closed."""

    async def aclose(self) -> None:
        raise OSError("its connection is gone")


@pytest.fixture
def reporter(monkeypatch: pytest.MonkeyPatch) -> Reporter:
    reporter = Reporter()
    for module in (replica, shared):
        monkeypatch.setattr(module, "report_metrics", lambda: reporter)
    return reporter


async def test_a_model_of_its_own(reporter: Reporter) -> None:
    class Started(Replica):
        def __init__(self) -> None:
            self._reporter: Any = reporter
            self._served: Any = Broken()

        def __del__(self) -> None:  # type: ignore[override]  # Ray Serve would await it
            pass

    with pytest.raises(OSError, match="gone"):
        await Started().close()
    assert reporter.closed


async def test_models_that_share_a_replica(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Started(SharedReplica):
        def __del__(self) -> None:  # type: ignore[override]  # Ray Serve would await it
            pass

    monkeypatch.setattr(HostedModels, "close", lambda self: Broken().aclose())
    with pytest.raises(OSError, match="gone"):
        await Started().close()
    assert reporter.closed


async def test_the_router(reporter: Reporter, monkeypatch: pytest.MonkeyPatch) -> None:
    class Started(Router):
        def __init__(self) -> None:
            self._reporter: Any = reporter
            self._in_process = HostedModels()

        def __del__(self) -> None:  # type: ignore[override]  # Ray Serve would await it
            pass

    monkeypatch.setattr(HostedModels, "close", lambda self: Broken().aclose())
    with pytest.raises(OSError, match="gone"):
        await Router.__del__(Started())
    assert reporter.closed
