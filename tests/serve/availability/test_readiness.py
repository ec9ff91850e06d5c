"""Promise: a model is reported as available only while it can answer, else with the reason."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from deployments.backends.litellm.config import LiteLLMConfig
from deployments.backends.openai_endpoint.config import EndpointConfig
from deployments.config import Autoscaling, Circuit, ModelConfig
from deployments.errors import ProviderError, Unreachable
from deployments.replicas.reachability import Reach
from serve.app import deployment_names
from serve.availability import readiness
from serve.availability.circuits import Circuits
from serve.availability.readiness import Readiness
from serve.availability.replicas import Availability, ModelState

RUNS = ModelState(available=True, status="HEALTHY", replicas=1, message="")
HOSTED = EndpointConfig(
    name="hosted",
    backend="vllm",
    hostname="http://127.0.0.1:9",
    circuit=Circuit(failures=2, seconds=10),
)
SLEEPER = EndpointConfig(
    name="sleeper",
    backend="vllm",
    hostname="http://127.0.0.1:9",
    autoscaling=Autoscaling(min_replicas=0, max_replicas=1),
)
LOCAL = ModelConfig(name="local", backend="x")


class Handle:
    """A handle whose replica gives a set answer for every model."""

    def __init__(self, says: str | Exception | Reach) -> None:
        self.says = says
        self.asked: list[list[str]] = []

    async def reach(self, models: list[str]) -> dict[str, Reach]:
        self.asked.append(models)
        if isinstance(self.says, Exception):
            raise self.says
        says = Reach(unreachable=self.says) if isinstance(self.says, str) else self.says
        return dict.fromkeys(models, says)


class Watched:
    """The readiness of models and its parts."""

    def __init__(self, *models: ModelConfig, says: str | Exception | Reach = "") -> None:
        configs = {model.name: model for model in models}
        self.now = 100.0
        self.handle = Handle(says)
        self.availability = Availability(configs, deployment_names(models))
        self.availability.states = dict.fromkeys(configs, RUNS)
        self.circuits = Circuits(configs, lambda: self.now)
        handles: Any = dict.fromkeys(configs, self.handle)
        self.readiness = Readiness(configs, handles, self.availability, self.circuits)

    async def wait_until(self, holds: Callable[[Readiness], bool]) -> None:
        deadline = time.monotonic() + 10
        while not holds(self.readiness):
            assert time.monotonic() < deadline, self.readiness.status
            await asyncio.sleep(0.01)

    async def wait_for(self, status: str) -> None:
        await self.wait_until(lambda readiness: readiness.status == status)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PERIOD_S", "_REACHED_S", "_UNREACHED_S"):
        monkeypatch.setattr(readiness, name, 0.01)


async def test_a_model_is_available_once_its_provider_has_been_checked() -> None:
    watched = Watched(HOSTED, LOCAL)
    assert watched.readiness.state("local") == RUNS
    state = watched.readiness.state("hosted")
    assert not state.available
    assert state.message == "checking whether its provider can be reached"
    watched.readiness.watch()
    await watched.wait_for("ready")
    assert watched.readiness.state("hosted") == RUNS


async def test_an_unreachable_provider_is_reported_until_it_is_back() -> None:
    watched = Watched(HOSTED, LOCAL, says="http://127.0.0.1:9: Connection refused")
    watched.readiness.watch()
    await watched.wait_until(lambda readiness: "since" in readiness.state("hosted").message)
    message = watched.readiness.state("hosted").message
    year = time.strftime("%Y", time.gmtime())
    assert message.startswith(f"its provider has been unreachable since {year}-")
    assert message.endswith(": http://127.0.0.1:9: Connection refused")
    assert watched.readiness.status == "degraded"
    # The failures of requests in the meantime are forgotten, too.
    for _ in range(2):
        watched.circuits.failed("hosted", Unreachable("can't be reached"))
    watched.handle.says = ""
    await watched.wait_for("ready")
    assert not watched.circuits.is_open("hosted")


async def test_a_reachable_provider_may_still_be_failing() -> None:
    watched = Watched(HOSTED, says="http://127.0.0.1:9: Connection refused")
    watched.readiness.watch()
    await watched.wait_until(lambda readiness: "since" in readiness.state("hosted").message)
    watched.circuits.failed("hosted", ProviderError("it is broken"))
    watched.handle.says = ""
    await watched.wait_until(lambda readiness: "broken" in readiness.state("hosted").message)


async def test_a_server_without_reachable_providers_is_unavailable() -> None:
    watched = Watched(HOSTED, says="http://127.0.0.1:9: Connection refused")
    watched.readiness.watch()
    await watched.wait_for("unavailable")


async def test_a_replica_that_fails_to_check_says_nothing_of_its_provider() -> None:
    watched = Watched(HOSTED, says=RuntimeError("it has gone"))
    watched.readiness.watch()
    await watched.wait_for("ready")


async def test_a_model_that_cannot_be_served_says_why() -> None:
    """Ray Serve doesn't: the deployment that it shares runs."""
    unset = LiteLLMConfig(name="unset", backend="openai", api_key="${UNSET}")
    watched = Watched(unset, LOCAL, says=Reach(fault="UNSET is not set"))
    watched.readiness.watch()
    message = "can't be served: UNSET is not set"
    await watched.wait_until(lambda readiness: readiness.state("unset").message == message)
    assert watched.readiness.status == "degraded"


async def test_models_of_one_deployment_are_asked_about_together() -> None:
    others = [HOSTED.model_copy(update={"name": str(number)}) for number in range(9)]
    watched = Watched(HOSTED, *others)
    watched.readiness.watch()
    await watched.wait_for("ready")
    assert sorted(watched.handle.asked[0]) == sorted(watched.availability.states)


async def test_an_answer_shows_that_the_provider_is_reachable() -> None:
    watched = Watched(HOSTED, says="http://127.0.0.1:9: Connection refused")
    watched.circuits.began("hosted")
    watched.readiness.watch()
    await watched.wait_for("ready")
    watched.now += 60
    await watched.wait_for("unavailable")


async def test_checking_providers_wakes_no_model() -> None:
    watched = Watched(SLEEPER, says="not to be asked")
    watched.readiness.watch()
    await asyncio.sleep(0.1)
    assert watched.readiness.status == "ready"


async def test_a_model_that_fails_every_request_is_not_available() -> None:
    watched = Watched(HOSTED, LOCAL)
    watched.readiness.watch()
    await watched.wait_for("ready")
    watched.circuits.failed("hosted", ProviderError("it is broken"))
    state = watched.readiness.state("hosted")
    assert state.available, "one failure does not open the circuit"
    assert state.message.startswith("has been failing since ")
    assert state.message.endswith(": it is broken")
    error = Unreachable("can't be reached")
    error.detail = "http://127.0.0.1:9: Connection refused"
    watched.circuits.failed("hosted", error)
    state = watched.readiness.state("hosted")
    assert not state.available
    assert state.message.endswith(": http://127.0.0.1:9: Connection refused")
    assert watched.readiness.status == "degraded"
    watched.circuits.answered("hosted")
    assert watched.readiness.state("hosted") == RUNS


async def test_a_server_whose_only_model_is_half_open_is_degraded() -> None:
    """Otherwise a load balancer would keep away the requests that could find it recovered."""
    watched = Watched(HOSTED)
    watched.readiness.watch()
    await watched.wait_for("ready")
    for _ in range(2):
        watched.circuits.failed("hosted", ProviderError("it is broken"))
    await watched.wait_for("unavailable")
    watched.now += 10
    await watched.wait_for("degraded")
    assert not watched.readiness.state("hosted").available
