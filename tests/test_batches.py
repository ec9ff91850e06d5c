"""Promise: a batch is no larger than it says, and knows of no model that its caller doesn't."""

import pytest
from pydantic import ValidationError

from deployments.errors import InvalidRequest
from serve.batches import MOST_NAMES, MOST_QUERIES, Batch, check_capacities


def test_names_are_as_few_in_one_list_as_in_many() -> None:
    names = [f"m{n}" for n in range(MOST_NAMES)]
    for models in (names, [names]):
        Batch(queries=["q"], models=models)
    with pytest.raises(ValidationError):
        Batch(queries=["q"], models=[*names, "more"])
    with pytest.raises(ValidationError):
        Batch(queries=["q"], models=[[*names, "more"]])
    with pytest.raises(ValidationError):
        Batch(queries=["q"] * (MOST_QUERIES + 1))


@pytest.mark.parametrize("models", [["a", "b"], None])
def test_one_list_is_for_all_queries(models: list[str] | None) -> None:
    assert Batch(queries=["p", "q"], models=models).candidates(["a", "b"]) == [("a", "b")] * 2


def test_a_capacity_is_of_a_model_that_the_caller_may_ask_for() -> None:
    batch = Batch(queries=["q"], capacities={"hidden": 1})
    check_capacities(batch, ["hidden", "other"])
    with pytest.raises(InvalidRequest, match="no model 'hidden'"):
        check_capacities(batch, ["other"])
