"""Promise: which models can answer is known, and one line says why another can't."""

import asyncio
import threading
import traceback
from unittest.mock import Mock

import pytest
import ray
from ray import serve as rayserve

from deployments.config import ModelConfig
from serve.availability import shortages as shortages_module
from serve.availability.replicas import Availability, Deployment, ModelState, messages, state_of
from serve.availability.shortages import shortage, shortages


def test_of_a_traceback_the_error_is_shown() -> None:
    try:
        raise ValueError(
            "it can't be loaded:\n  there is no such folder\n    https://example.com\n"
        )
    except ValueError:
        trace = traceback.format_exc()
    assert messages({"m": f"It failed 3 times. Error:\nray::m() (pid=1)\n{trace}"}) == {
        "m": "ValueError: it can't be loaded: there is no such folder https://example.com"
    }


def test_a_message_without_traceback_is_shown_whole() -> None:
    said = "Deployment 'm' takes long.\nThis may be caused by a slow __init__."
    assert messages({"m": said}) == {"m": said.replace("\n", " ")}


def test_a_long_error_is_shortened() -> None:
    assert len(messages({"m": "word " * 10_000})["m"]) <= 600


def test_a_healthy_deployment_has_no_message() -> None:
    assert messages({"m": "", "n": "\n"}) == {}


def test_a_shortage_compares_all_bundles_with_the_cluster() -> None:
    bundles = [{"GPU": 1.0, "CPU": 1.0}, {"GPU": 1.0}]
    total, free = {"GPU": 1.0, "CPU": 8.0}, {"CPU": 7.5}
    assert shortage(bundles, total, free) == (
        "waiting for room for a replica, which needs CPU 1 (the cluster has 8, 7.5 of it free), "
        "GPU 2 (the cluster has 1, 0 of it free), "
        "in 2 bundles, of which the largest needs on one node: CPU 1, GPU 1"
    )


def test_an_engine_that_lost_a_node_lacks_its_bundles_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    group = {
        "name": "SERVE_REPLICA::ours#m#abc",
        "state": "RESCHEDULING",
        "bundles": {0: {"GPU": 1.0}, 1: {"GPU": 1.0}},
        "bundles_to_node_id": {0: "a node that is there", 1: ""},
    }
    others = {"name": "of someone else", "state": "PENDING"}
    theirs = {**group, "name": "SERVE_REPLICA::theirs#m#abc"}
    groups = dict(enumerate([group, {**group, "state": "CREATED"}, others, theirs]))
    monkeypatch.setattr(shortages_module, "placement_group_table", lambda: groups)
    monkeypatch.setattr(shortages_module, "application_details", lambda _: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 1.0})
    monkeypatch.setattr(ray, "available_resources", dict)
    assert shortages("ours") == {"m": shortage([{"GPU": 1.0}], {"GPU": 1.0}, {})}


def test_plain_replicas_lack_room_if_ray_reports_their_demand_as_unmet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starting = {"state": "STARTING"}
    placed = {**starting, "node_id": "a node"}

    def details(cpus: float, *replicas: dict[str, str], **config: object) -> dict[str, object]:
        needed = {"CPU": cpus, "GPU": 0}
        return {
            "required_resources": needed,
            "replicas": replicas,
            "deployment_config": config,
        }

    deployments = {
        "waits": details(1 / 3, placed, starting),
        "its process starts": details(0.1, starting),
        "initializes": details(1 / 3, placed),
        "an engine": details(1 / 3, starting, placement_group_bundles=[{"GPU": 1}]),
    }
    applications = {"ours": {"deployments": deployments}}
    monkeypatch.setattr(shortages_module, "application_details", applications.get)
    monkeypatch.setattr(shortages_module, "unmet_demands", lambda: [{"CPU": 0.3333}])
    monkeypatch.setattr(shortages_module, "placement_group_table", dict)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 0.2})
    assert shortages("ours") == {
        "waits": "waiting for room for a replica, which needs CPU 0.3333 "
        "(the cluster has 2, 0.2 of it free), all on one node"
    }
    assert shortages("theirs") == {}


def deployment(status: str, *states: str) -> Deployment:
    details = {"status": status, "message": "", "replicas": [{"state": state} for state in states]}
    return Deployment.read(details)


MODEL = ModelConfig(name="m", backend="x")
WELL = ModelState(available=True, status="HEALTHY", replicas=1, message="")


@pytest.mark.parametrize("state", ["RUNNING", "UPDATING", "RECOVERING", "PENDING_MIGRATION"])
def test_a_replica_that_answers_is_available_in_any_state(state: str) -> None:
    assert state_of(MODEL, deployment("UPDATING", state), "", WELL).available


@pytest.mark.parametrize(
    ("status", "states", "before", "returning"),
    [
        ("UPDATING", ["STARTING"], WELL, True),
        ("UPDATING", ["STOPPING", "STARTING"], ModelState(True, "UNKNOWN", 0, ""), True),
        ("UPDATING", [], ModelState(False, "UPDATING", 0, "", returning=True), True),
        ("UPDATING", ["STARTING"], ModelState(False, "UPDATING", 0, ""), False),
        ("UNHEALTHY", ["STARTING"], WELL, False),
        ("DEPLOY_FAILED", [], ModelState(False, "UPDATING", 0, "", returning=True), False),
    ],
    ids=["replaced", "still stopping", "still starting", "first start", "died", "failed"],
)
def test_a_model_whose_replicas_are_replaced_is_returning(
    status: str, states: list[str], before: ModelState, returning: bool
) -> None:
    state = state_of(MODEL, deployment(status, *states), "", before)
    assert (state.available, state.returning) == (False, returning)


def test_a_returning_model_counts_if_there_is_no_other() -> None:
    models = {name: ModelConfig(name=name, backend="x") for name in "ab"}
    availability = Availability(models, {"a": "a", "b": "b"})
    away = ModelState(False, "UPDATING", 0, "", returning=True)
    availability.states = {"a": away, "b": WELL}
    assert availability.running(["a", "b"]) == ["b"]
    assert availability.running(["a"]) == ["a"]


async def test_waiting_ends_when_the_model_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    availability = Availability({"m": MODEL}, {"m": "m"})
    monkeypatch.setattr(rayserve, "get_replica_context", Mock())
    dead = ModelState(False, "UNHEALTHY", 0, "")
    monkeypatch.setattr(availability, "_read", lambda name: {"m": dead})

    async def wait() -> None:
        with availability.patience("m", 60):
            await asyncio.sleep(60)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await availability.watch()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 5)
    assert waiting.done()
    assert availability.is_lost("m")


async def test_the_controller_is_polled_again_before_a_request_is_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    availability = Availability({"m": MODEL}, {"m": "m"})
    monkeypatch.setattr(rayserve, "get_replica_context", Mock())
    read = Mock(return_value={"m": WELL})
    monkeypatch.setattr(availability, "_read", read)
    availability.states = {"m": ModelState(False, "UPDATING", 0, "")}
    assert await availability.running_now(["m"]) == ["m"]
    # Not by every request at once.
    availability.states = {"m": ModelState(False, "UNHEALTHY", 0, "")}
    assert await asyncio.gather(*(availability.running_now(["m"]) for _ in range(9))) == [[]] * 9
    assert read.call_count == 1


async def test_a_controller_that_does_not_answer_blocks_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    availability = Availability({"m": MODEL}, {"m": "m"})
    monkeypatch.setattr(rayserve, "get_replica_context", Mock())
    answer = threading.Event()
    read = Mock(side_effect=lambda name: answer.wait(60))
    monkeypatch.setattr(availability, "_read", read)
    availability.states = {"m": ModelState(False, "UNHEALTHY", 0, "")}
    try:
        async with asyncio.timeout(10):
            for _ in range(2):
                waiting = (availability.running_now(["m"]) for _ in range(20))
                assert await asyncio.gather(*waiting) == [[]] * 20
        assert read.call_count == 1, "each call without an answer would hold a thread"
    finally:
        answer.set()
