"""Promise: two cheap models are asked first where their agreement tells enough to be worth its
cost, a better one answers where they differ, and the mean that is wanted holds."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from telling_answers import PRICES, recorded

from deployments.store.evidence import Integers, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.routing.cascade.deciding import CascadeDecider, Probing
from serve.routing.decider import policy_of
from serve.routing.forecast.fits import read_fit, write_fit
from serve.routing.forecast.fitting import Refit
from serve.routing.policies import models_of
from serve.routing.strategy import Question, Ranking


@cache
def fitted(*, telling: bool = True) -> Refit:
    snapshot = recorded(telling=telling)
    return CascadeDecider(SnapshotEvidence(snapshot), PRICES).refit(snapshot)


def decider(*, telling: bool = True) -> CascadeDecider:
    new = CascadeDecider(SnapshotEvidence(recorded(telling=telling)), PRICES)
    new.use(new.forecaster(fitted=fitted(telling=telling)))
    return new


def question(requirement: float = 0.96, **more: object) -> Question:
    names = tuple(PRICES)
    fields = {"query": "what?", "characters": 400, "candidates": names, "available": names}
    return Question(**{**fields, "requirement": requirement, **more})  # type: ignore[arg-type]


def prepared(decider: CascadeDecider, asked: Question) -> Question:
    asked = decider.with_probes(asked)
    if name := decider.claim(asked):
        decider.begin(asked, decider.new_policy(name))
        decider.release(name)
    return asked


def plan(decider: CascadeDecider, asked: Question, row: int = 0) -> Ranking | Probing:
    return decider.plan(prepared(decider, asked), recorded(1).embeddings[row])


def probing(decider: CascadeDecider, asked: Question | None = None) -> Probing:
    planned = plan(decider, asked or question())
    assert isinstance(planned, Probing)
    return planned


def served(decider: CascadeDecider, asked: Question) -> tuple[float, float]:
    """Mean quality and cost of new queries, in USD."""
    new, names = recorded(1), list(PRICES)
    assert new.said is not None
    quality, cost = 0.0, 0.0
    price = {name: PRICES[name].input * 100 + PRICES[name].output * 100 for name in names}
    for row in range(len(new)):
        planned, paid = plan(decider, asked, row), set[str]()
        if isinstance(planned, Probing):
            paid = {*planned.models}
            first, second = (new.said[row, names.index(name)] for name in planned.models)
            planned = planned.settle(paid, bool(first == second))
        quality += new.quality[row, names.index(planned.models[0])]
        cost += sum(price[name] for name in {*paid, planned.models[0]})
    return quality / len(new), cost / len(new)


def test_a_policy_with_pairs_chooses_among_the_models_alone() -> None:
    asked = decider().with_probes(question())
    assert len(asked.candidates) > len(PRICES)
    assert models_of(policy_of(asked)) == set(PRICES)


@pytest.mark.parametrize("requirement", [0.8, 0.9])
def test_the_wanted_mean_holds_at_much_less_than_it_costs_without_probes(
    requirement: float,
) -> None:
    quality, cost = served(decider(), question(requirement))
    without, dearer = served(decider(telling=False), question(requirement))
    assert quality >= requirement - 0.02
    assert without >= requirement - 0.02
    assert cost < 0.75 * dearer


def test_if_they_agree_one_of_their_answers_counts_and_costs_nothing_more() -> None:
    ranking = probing(decider()).settle({"a", "b"}, True)
    assert ranking.models[0] in ("a", "b")
    assert ranking.answered
    other = "b" if ranking.models[0] == "a" else "a"
    assert ranking.spent == ranking.cost[other]
    assert ranking.reason.startswith("a and b agree; ")
    assert ranking.quality[ranking.models[0]] > 0.9


def test_if_they_differ_a_better_model_answers() -> None:
    ranking = probing(decider()).settle({"a", "b"}, False)
    assert ranking.models[0] == "large"
    assert not ranking.answered
    assert ranking.spent == ranking.cost["a"] + ranking.cost["b"]
    assert ranking.reason.startswith("a and b differ; ")


@pytest.mark.parametrize("answered", [{"a"}, set[str]()])
def test_a_probe_that_fails_is_asked_last(answered: set[str]) -> None:
    ranking = probing(decider()).settle(answered, False)
    assert ranking.models[-1] == "b"
    assert {*ranking.models} == {*PRICES}
    assert ranking.reason.startswith("a and b did not both answer; ")


def test_where_agreement_tells_nothing_nobody_is_probed() -> None:
    assert isinstance(plan(decider(telling=False), question()), Ranking)


@pytest.mark.parametrize(
    "more",
    [{"available": ("a", "large")}, {"asleep": ("b",)}, {"floor": True}, {"requirement": 0.3}],
    ids=["one is away", "one is scaled to zero", "a floor", "cheap ones do"],
)
def test_nobody_is_probed_who_can_not_help(more: dict[str, object]) -> None:
    assert isinstance(plan(decider(), replace(question(), **more)), Ranking)  # type: ignore[arg-type]


def test_a_model_that_is_scaled_to_zero_does_not_answer_after_probes() -> None:
    planned = replace(probing(decider()), question=question(asleep=("large",)))
    assert planned.settle({"a", "b"}, False).models[-1] == "large"


def test_a_request_without_a_policy_yet_is_decided_without_probes() -> None:
    new = decider()
    assert isinstance(new.plan(new.with_probes(question()), recorded(1).embeddings[0]), Ranking)


def test_a_fit_that_was_stored_probes_the_same_pairs(tmp_path: Path) -> None:
    write_fit(tmp_path / "fit.npz", fitted())
    read = read_fit(tmp_path / "fit.npz", decider().prior)
    assert read.pairs == fitted().pairs == [(0, 1)]
    np.testing.assert_array_equal(read.agreement, fitted().agreement)


def test_a_policy_from_before_a_pair_paid_no_longer_still_begins() -> None:
    name = decider().claim(decider().with_probes(question()))
    assert name is not None
    assert decider(telling=False).new_policy(name).multiplier is not None


def digests(snapshot: Snapshot) -> Integers:
    assert snapshot.said is not None
    return snapshot.said


def test_answers_that_are_not_known_are_no_disagreement() -> None:
    """Half of the answers are missing; what the others tell is the same."""
    snapshot = recorded()
    said = digests(snapshot).copy()
    said[::2, 0] = 0
    partly = decider().refit(replace(snapshot, said=said))
    assert partly.pairs == [(0, 1)]
    assert partly.agreement is not None
    assert 0.4 < np.isnan(partly.agreement).mean() < 0.6
