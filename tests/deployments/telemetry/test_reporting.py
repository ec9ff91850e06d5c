"""Promise: a replica reports all its samples again and again, whatever happens to the actor."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, GetTimeoutError

from deployments.telemetry import reporting
from deployments.telemetry.instruments import ATTEMPTS
from deployments.telemetry.reporting import Reporter
from deployments.telemetry.samples import Samples


class Actor:
    """A handle to the actor; there are no real ones without Ray."""

    def __init__(self, outcome: Exception | None = None) -> None:
        self.heard: list[tuple[str, Samples]] = []
        self.outcome = outcome
        self.push = self

    def remote(self, replica: str, samples: Samples) -> Any:
        self.heard.append((replica, samples))
        return self.outcome


class Cluster:
    """Which actors are found, one list after the other."""

    def __init__(self) -> None:
        self.actors: list[list[Actor]] = []
        self.looked_up = 0

    def found(self, application: str) -> list[Actor]:
        self.looked_up += 1
        return self.actors[min(self.looked_up, len(self.actors)) - 1]


def get(outcome: Exception | None, timeout: float) -> None:
    if outcome is not None:
        raise outcome


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(reporting, "PERIOD_S", 0.01)
    monkeypatch.setattr(reporting, "_found", cluster.found)
    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(ray, "cancel", lambda ref: None)
    return cluster


@pytest.fixture
def start(cluster: Cluster) -> Iterator[Callable[..., Reporter]]:
    """Starts a reporter to actors, of which those of a later list are found when it looks again."""
    started: list[Reporter] = []

    def start(*actors: list[Actor]) -> Reporter:
        cluster.actors += actors
        started.append(Reporter("llms", "Router#1"))
        return started[-1]

    yield start
    for reporter in started:
        reporter.close()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_report_has_all_samples_and_the_actor_is_looked_up_once(
    cluster: Cluster, start: Callable[..., Reporter]
) -> None:
    ATTEMPTS.labels("reported", "answered").inc()
    actor = Actor()
    start([actor])
    wait_until(lambda: len(actor.heard) >= 3)
    assert cluster.looked_up == 1
    for replica, samples in actor.heard:
        assert replica == "Router#1"
        series = "llm_attempts_total", (("model", "reported"), ("outcome", "answered"))
        assert samples["llm_attempts"][series] >= 1


@pytest.mark.parametrize("outcome", [ActorDiedError(), GetTimeoutError(), OSError("no node")])
def test_after_a_failure_another_actor_is_found(
    start: Callable[..., Reporter], outcome: Exception
) -> None:
    first, second = Actor(outcome), Actor()
    start([first], [], [second])
    wait_until(lambda: bool(second.heard))


def test_during_an_update_the_actors_of_both_versions_are_told(
    start: Callable[..., Reporter],
) -> None:
    old, new = Actor(), Actor()
    start([old, new])
    wait_until(lambda: bool(old.heard and new.heard))


def test_what_was_counted_last_is_reported_before_the_end(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., Reporter]
) -> None:
    monkeypatch.setattr(reporting, "PERIOD_S", 100)
    actor = Actor()
    reporter = start([actor])
    wait_until(lambda: bool(actor.heard))
    ATTEMPTS.labels("the last", "answered").inc()
    reporter.close()
    (_, (_, samples)) = actor.heard
    assert any(("model", "the last") in labels for _, labels in samples["llm_attempts"])
