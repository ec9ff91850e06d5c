"""Promise: why a model can't answer is told in one line."""

import traceback

import pytest
import ray

from serve import placement
from serve.availability import messages
from serve.placement import shortage, shortages


def test_of_a_traceback_the_whole_error_is_told() -> None:
    try:
        raise ValueError(
            "it can't be loaded:\n  there is no such folder\n    https://example.com\n"
        )
    except ValueError:
        trace = traceback.format_exc()
    assert messages({"m": f"It failed 3 times. Error:\nray::m() (pid=1)\n{trace}"}) == {
        "m": "ValueError: it can't be loaded: there is no such folder https://example.com"
    }


def test_what_is_no_traceback_is_told_whole() -> None:
    said = "Deployment 'm' takes long.\nThis may be caused by a slow __init__."
    assert messages({"m": said}) == {"m": said.replace("\n", " ")}


def test_an_error_without_end_is_cut() -> None:
    assert len(messages({"m": "word " * 10_000})["m"]) <= 600


def test_of_a_deployment_that_is_well_nothing_is_told() -> None:
    assert messages({"m": "", "n": "\n"}) == {}


def test_a_shortage_counts_all_bundles_beside_what_there_is() -> None:
    bundles = [{"GPU": 1.0, "CPU": 1.0}, {"GPU": 1.0}]
    total, free = {"GPU": 1.0, "CPU": 8.0}, {"CPU": 7.5}
    assert shortage(bundles, total, free) == (
        "waits for room for a replica, which needs CPU 1, of which the cluster has 8 and 7.5 free; "
        "GPU 2, of which the cluster has 1 and 0 free "
        "(bundles: 2; on one node, of the largest: CPU 1, GPU 1)"
    )


def test_of_an_engine_that_lost_a_node_what_was_lost_is_missing(
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
    monkeypatch.setattr(placement, "placement_group_table", lambda: groups)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": 1.0})
    monkeypatch.setattr(ray, "available_resources", dict)
    assert shortages("ours") == {"m": shortage([{"GPU": 1.0}], {"GPU": 1.0}, {})}
