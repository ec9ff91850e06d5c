"""Promise: a model that keeps failing gets no requests but a probe now and then."""

import pytest
from clocks import Clock

from deployments.config import Circuit, ModelConfig
from deployments.errors import (
    ContentFiltered,
    DeadlineExceeded,
    InvalidRequest,
    LLMError,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    ProviderRejected,
    RateLimited,
    Unreachable,
    UnsupportedParameter,
    Untranslatable,
)
from serve.availability.circuits import Circuits


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def circuits(clock: Clock) -> Circuits:
    circuit = Circuit(failures=3, seconds=10)
    models = {name: ModelConfig(name=name, backend="x", circuit=circuit) for name in "ab"}
    return Circuits(models, clock)


@pytest.mark.parametrize("fault", [ProviderError, ProviderRejected, Unreachable, DeadlineExceeded])
def test_after_so_many_consecutive_faults_a_model_is_passed_over(
    circuits: Circuits, fault: type[LLMError]
) -> None:
    for _ in range(2):
        circuits.failed("a", fault("x"))
    assert circuits.usable("ab") == ["a", "b"]
    circuits.failed("a", fault("x"))
    assert circuits.usable("ab") == ["b"]
    assert circuits.is_open("a")


def test_faults_between_answers_open_no_circuit(circuits: Circuits) -> None:
    for _ in range(5):
        circuits.failed("a", ProviderError("x"))
        circuits.failed("a", ProviderError("x"))
        circuits.answered("a")
    assert circuits.usable("a") == ["a"]


def test_faults_far_apart_open_no_circuit(circuits: Circuits, clock: Clock) -> None:
    for _ in range(10):
        circuits.failed("a", ProviderError("x"))
        clock.now += 3600
    assert not circuits.is_open("a")
    for _ in range(3):
        circuits.failed("a", ProviderError("x"))
        clock.now += 60
    assert circuits.is_open("a")


def test_a_late_probe_that_breaks_off_reopens_the_circuit(circuits: Circuits, clock: Clock) -> None:
    for _ in range(3):
        circuits.failed("a", ProviderError("x"))
    clock.now += 3600
    circuits.began("a")
    circuits.failed("a", ProviderError("cut"))
    assert circuits.is_open("a")


@pytest.mark.parametrize(
    "error",
    [InvalidRequest, Untranslatable, ContentFiltered, ModelUnavailable, RateLimited, Overloaded],
)
def test_errors_that_are_not_the_models_fault_open_no_circuit(
    circuits: Circuits, clock: Clock, error: type[LLMError]
) -> None:
    for _ in range(100):
        circuits.failed("a", error("x"))
    clock.now += 1
    assert circuits.usable("a") == ["a"]
    assert not circuits.is_open("a")


def test_an_open_circuit_admits_one_probe_per_period(circuits: Circuits, clock: Clock) -> None:
    for _ in range(3):
        circuits.failed("a", ProviderError("x"))
    clock.now += 9.9
    assert circuits.usable("a") == []
    clock.now += 0.2
    assert circuits.usable("a") == ["a"]
    assert circuits.admit("a")
    assert not circuits.admit("a"), "two probes at once"
    assert circuits.usable("a") == []
    circuits.failed("a", ProviderError("x"))
    clock.now += 9.9
    assert circuits.usable("a") == []
    clock.now += 0.2
    assert circuits.usable("a") == ["a"]


def test_an_answer_closes_the_circuit(circuits: Circuits, clock: Clock) -> None:
    for _ in range(3):
        circuits.failed("a", ProviderError("x"))
    clock.now += 10
    assert circuits.admit("a")
    circuits.answered("a")
    assert circuits.usable("a") == ["a"]
    circuits.failed("a", ProviderError("x"))
    assert circuits.usable("a") == ["a"], "old faults no longer count"


def test_a_refusal_counts_as_an_answer(circuits: Circuits, clock: Clock) -> None:
    for _ in range(3):
        circuits.failed("a", ProviderError("x"))
    circuits.failed("a", UnsupportedParameter("its replica doesn't ask"))
    circuits.failed("a", Untranslatable("its replica couldn't ask"))
    assert circuits.is_open("a")
    circuits.failed("a", ContentFiltered("not this"))
    assert not circuits.is_open("a")


def test_a_probe_that_begins_to_answer_closes_the_circuit_until_it_breaks_off(
    circuits: Circuits,
) -> None:
    for _ in range(3):
        circuits.failed("a", ProviderError("x"))
    circuits.began("a")
    assert circuits.usable("a") == ["a"]
    circuits.failed("a", ProviderError("cut"))
    assert circuits.is_open("a")


@pytest.mark.parametrize(("says", "rests"), [(None, 1), (0, 0), (7, 7), (3600, 30)])
def test_a_full_model_is_passed_over_for_its_retry_after_within_bounds(
    circuits: Circuits, clock: Clock, says: float | None, rests: float
) -> None:
    circuits.failed("a", RateLimited("x", retry_after=says))
    if rests:
        clock.now += rests - 0.1
        assert circuits.usable("ab") == ["b"]
    clock.now += 0.2
    assert circuits.usable("ab") == ["a", "b"]


def test_a_probe_that_reached_no_provider_admits_another(circuits: Circuits, clock: Clock) -> None:
    for _ in range(3):
        circuits.failed("a", ProviderError("x"))
    clock.now += 10
    assert circuits.admit("a")
    assert not circuits.admit("a")
    circuits.failed("a", Untranslatable("x"))
    assert circuits.admit("a")
