"""Shared fixtures, and which tests are slow, since they start something real, or take long."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from large_parts import latest_part, used_by

# Small matrices are multiplied several times faster by one thread than by a few that contend for
# the machine's cores. Set before numpy is imported; what the tests start inherits it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = [
    *("vllm_fixtures", "serve_fixtures", "engine_fixtures", "postgres_fixtures", "plain_fixtures"),
    *("browser_fixtures", "large_fixtures", "router_fixtures"),
]

TESTS = Path(__file__).parent
# Fixtures that start something real. Those that depend on them (`smart`, `engines`, …) need no
# entry. A test or parameter that starts one in another way says so by the marker `uses`.
REAL_PARTS = {"ray_cluster", "vllm_server", "postgresql", "plain", "engine", "browser"}
# Rooms and files that take long without such a fixture.
SLOW = [
    TESTS / name
    for name in (
        "server",  # programs and their clusters
        "cluster",
        "fuzz",
        "ops/load/test_command.py",  # processes that drive and draw
        "test_wheel.py",  # a build
        "deployments/backends/huggingface",  # the engine
        # imports of torch and vLLM
        "deployments/backends/vllm",
        "deployments/backends/test_images.py",
        "deployments/test_internals.py",
    )
]
# Those of them that take minutes each: several nodes, processes killed, load that grows. A function
# says so by the marker `long`.
LONG = [
    TESTS / name
    for name in (
        "cluster/test_chaos.py",
        "cluster/test_growth.py",
        "cluster/test_placement.py",
        "cluster/test_redeploy.py",
        "cluster/test_scaling.py",
        "fuzz/test_application.py",
        "ops/load/test_command.py",
        "server/test_load.py",
    )
]
# As `make test-quick` and `make test` say it.
QUICK, NOT_LONG = "not slow", "not long"

# `make fuzz`
settings.register_profile("fuzz", max_examples=5000, deadline=None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spares a run the imports of the rooms that it leaves out."""
    left_out = {QUICK: [*SLOW, *LONG], NOT_LONG: LONG}.get(config.option.markexpr, ())
    return collection_path in left_out or None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow tests and the long ones, so that `-m "not slow"` is right by construction, and
    groups the tests for `pytest -n`: the quick ones share all its processes, then one of them runs
    the slow ones, so that each real part is started once and has the machine to itself."""
    for item in items:
        parts = _parts(item)
        if parts or any(path in SLOW for path in (item.path, *item.path.parents)):
            item.add_marker("slow")
        if item.path in LONG:
            item.add_marker("long")
        item.add_marker(pytest.mark.xdist_group(_group(item)))
        # Waits are real, and a busy machine stands still at times. The summary names what was tried
        # again.
        item.add_marker(pytest.mark.flaky(reruns=1))
    # Among slow tests, those with clusters of their own come before those that share one; among
    # these, what a test shares with many others is not yet running while tests with deadlines do
    # without it.
    items.sort(key=lambda item: (_slow(item), _shares_the_cluster(item), latest_part(item)))


def _parts(item: pytest.Item) -> set[str]:
    return REAL_PARTS & used_by(item)


def _group(item: pytest.Item) -> str:
    return "slow" if _slow(item) else str(item.path.relative_to(TESTS))


def _shares_the_cluster(item: pytest.Item) -> bool:
    """Whether it uses the tests' cluster, or vLLM's server, which the cluster's models use too."""
    return bool(_parts(item) & {"ray_cluster", "vllm_server"})


def _slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


@pytest.fixture(autouse=True)
def _only_slow_tests_start_real_parts(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> NoReturn:
        pytest.fail("a quick test starts a real part: use its fixture or the marker `uses`")

    if not _slow(request.node):
        for start in ("ray.init", "postgres_fixtures.PostgreSQL.start", "vllm_fixtures._command"):
            monkeypatch.setattr(start, refuse)


@pytest.fixture(scope="session", autouse=True)
def _state_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests away from the store of the user who runs them, and from its copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
