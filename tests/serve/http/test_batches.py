"""Promise: a batch is bounded, and shows its caller nothing of other callers."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from deployments.errors import InvalidRequest
from deployments.store.evidence import Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.http.batches import MOST_NAMES, MOST_QUERIES, Batch, check_capacities, reply
from serve.routing.decider import Decider
from serve.routing.prices import Price


def test_a_batch_has_limits() -> None:
    names = [f"m{n}" for n in range(MOST_NAMES)]
    for models in (names, [names]):
        Batch(queries=["q"], models=models)
    with pytest.raises(ValidationError):
        Batch(queries=["q"], models=[*names, "more"])
    with pytest.raises(ValidationError):
        Batch(queries=["q"], models=[[*names, "more"]])
    with pytest.raises(ValidationError):
        Batch(queries=["q"] * (MOST_QUERIES + 1))


def test_a_capacity_is_a_number_to_compute_with() -> None:
    Batch(queries=["q"], capacities={"a": 2**63 - 1})
    with pytest.raises(ValidationError):
        Batch(queries=["q"], capacities={"a": 10**400})


@pytest.mark.parametrize("models", [["a", "b"], None])
def test_one_list_of_models_applies_to_all_queries(models: list[str] | None) -> None:
    names = tuple(models) if models else None
    assert Batch(queries=["p", "q"], models=models).sets() == [names, names]


def test_capacities_are_for_the_callers_models_only() -> None:
    batch = Batch(queries=["q"], capacities={"hidden": 1})
    check_capacities(batch, ["hidden", "other"])
    with pytest.raises(InvalidRequest, match="no model 'hidden'"):
        check_capacities(batch, ["other"])


def test_past_queries_are_hidden_unless_the_server_shows_them() -> None:
    asked, one = np.eye(4, dtype=np.float32)[:1], np.ones((1, 1), np.float32)
    past = SnapshotEvidence(Snapshot(["a secret question"], asked, one, one, one))
    question = Batch(queries=["a secret question"]).question([("m",)], 0.5)
    routes = Decider(past, {"m": Price(1e-6, 1e-6)}).route(question, asked)
    hidden = reply(question, routes)["data"][0]
    assert hidden.keys() == {"index", "model", "reason", "candidates"}
    shown = reply(question, replace(routes, past={0: "a secret question"}))["data"][0]
    assert shown["neighbours"] == [{"id": 0, "similarity": 1, "query": "a secret question"}]
