"""Promise: when the models change, what is known of those that stay is kept."""

from typing import Any

import pytest
from recorded import Recorded

from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.config import ModelConfig
from deployments.errors import ProviderError
from deployments.replicas.reachability import Reach
from serve.availability.replicas import ModelState
from serve.fleet import Fleet

HOSTED = {
    name: EndpointConfig(name=name, backend="vllm", hostname="http://127.0.0.1:9") for name in "ab"
}
RUNS = ModelState(available=True, status="HEALTHY", replicas=1, message="")


def fleet(models: dict[str, ModelConfig], before: Fleet | None = None) -> Fleet:
    handles: Any = {"Endpoints": None}  # not called
    names = dict.fromkeys(models, "Endpoints")
    return Fleet.assemble(models, names, handles, (), None, None, before)


@pytest.fixture
def before() -> Fleet:
    """Both models run, have failed once, and have known windows."""
    before = fleet(dict(HOSTED))
    before.availability.states = dict.fromkeys(HOSTED, RUNS)
    for name in HOSTED:
        before.circuits.failed(name, ProviderError(f"{name} is broken"))
        before.readiness._providers[name].found(Reach(unreachable="refused"))
        del before.windows._not_before[name]
        before.windows.known[name] = 7
    return before


async def test_a_model_that_stays_keeps_what_is_known_of_it(before: Fleet) -> None:
    after = fleet({"a": HOSTED["a"]}, before)
    assert after.availability.states == {"a": RUNS}
    fault = after.circuits.fault("a")
    assert fault is not None
    assert fault.message == "a is broken"
    assert after.readiness.state("a").message.endswith(": refused")
    assert after.windows.known == {"a": 7}
    # A request that began with the fleet before tells the new one, too.
    before.circuits.answered("a")
    assert after.circuits.fault("a") is None


async def test_a_model_that_is_changed_starts_anew(before: Fleet) -> None:
    changed = HOSTED["a"].model_copy(update={"hostname": "http://127.0.0.1:10"})
    after = fleet({**HOSTED, "a": changed}, before)
    assert after.circuits.fault("a") is None
    assert after.circuits.fault("b") is not None
    assert after.windows.known == {"b": 7}


async def test_calls_that_began_before_still_count(before: Fleet) -> None:
    """Of all models: one that is removed or changed still answers them."""
    before.core.in_flight.update(a=2, b=3)
    after = fleet({"a": HOSTED["a"], "c": HOSTED["b"].model_copy(update={"name": "c"})}, before)
    assert after.core.in_flight == {"a": 2, "b": 3, "c": 0}
    before.core.in_flight["a"] -= 1
    assert after.core.in_flight["a"] == 1


def open_circuit(of: Fleet, name: str) -> None:
    while not of.circuits.is_open(name):
        of.circuits.failed(name, ProviderError("down"))


async def test_open_circuits_are_shown_of_the_fleet_in_use_alone(before: Fleet) -> None:
    recorded = Recorded()

    def shown(name: str) -> float:
        return recorded("llm_circuits_open", model=name)

    open_circuit(before, "a")
    open_circuit(before, "b")
    refused = fleet({"a": HOSTED["a"]}, before)
    refused.stop()
    assert (shown("a"), shown("b")) == (1, 1), "the fleet before goes on"
    after = fleet({"a": HOSTED["a"]}, before)
    before.stop()
    assert (shown("a"), shown("b")) == (1, 0)
    # Requests that began with the fleet before end.
    before.circuits.answered("b")
    open_circuit(before, "b")
    before.circuits.answered("a")
    assert (shown("a"), shown("b")) == (0, 0)
    open_circuit(after, "a")
    assert shown("a") == 1
