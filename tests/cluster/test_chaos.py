"""Promise: whatever process or node is killed, requests are answered or refused, in time.

`make bench-chaos` does the same for longer.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from serve_fixtures import in_repository

from ops.bench.chaos.cluster import DEADLINE_S
from ops.bench.chaos.kills import KILLS

_PATIENCE_S, _END_S = 480, 20  # a third of it on an idle machine
# No request waits for these, or there are two of them: callers don't notice the kill.
UNNOTICED = ("a backend replica", "the sequence", "the store", "Serve's controller")

Figures = dict[str, dict[str, Any]]


@contextmanager
def chaos(*options: str) -> Iterator["subprocess.Popen[str]"]:
    """The benchmark in its own process, with its own Ray, which it ends when terminated."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.bench.chaos", *options],
        cwd=in_repository("."),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_END_S)


@pytest.fixture(scope="module")
def figures() -> Figures:
    """What callers saw of each kill."""
    with chaos("--seconds", "1") as process:
        told, log = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0, log[-5000:]
    print(told)
    measured: Figures = json.loads(told.splitlines()[-1])
    return measured


@pytest.mark.timeout(_PATIENCE_S + _END_S)
def test_every_node_gets_what_the_store_has_learned(figures: Figures) -> None:
    copies = [seen["copies"] for seen in figures.values()]
    assert min(copies) > 0, figures
    assert max(copies) == 2, figures  # there is a router on each worker at first


@pytest.mark.timeout(_PATIENCE_S + _END_S)
@pytest.mark.parametrize("killed", KILLS)
def test_every_request_is_answered_or_refused_in_time_and_the_cluster_recovers(
    figures: Figures, killed: str
) -> None:
    seen = figures[killed]
    assert seen["lost"] == 0, seen
    assert seen["sent"] == seen["answered"] + seen["refused"]
    # Only streams that had begun and requests for models without a replica may be refused.
    assert seen["unwarranted"] == 0, seen
    assert seen["longest_s"] < DEADLINE_S + 2, seen
    assert seen["recovery_s"] is not None, seen


@pytest.mark.parametrize("killed", UNNOTICED)
def test_callers_notice_nothing_where_another_process_can_take_over(
    figures: Figures, killed: str
) -> None:
    assert figures[killed]["refused"] == figures[killed]["retried"] == 0, figures[killed]
