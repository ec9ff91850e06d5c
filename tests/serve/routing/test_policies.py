"""Promise: nobody's wishes push out another's policies, and an exchange loses no decision."""

from dataclasses import replace
from math import log

import numpy as np
import pytest

from serve.routing.optimise.online import Policy
from serve.routing.optimise.reach import Reach
from serve.routing.policies import (
    MOST_CALLERS,
    MOST_CONFIGURED,
    MOST_OF_CALLER,
    Counts,
    Policies,
    Shared,
    policy_name,
)

# Too wide to bound anything here.
REACH = Reach(log(0.01), 16.0, log(0.01), 16.0)
STARTED = Policy(0.5, multiplier=0.01, reach=REACH, decisions=1000)
EVERYONE = np.ones(2, np.bool_)


def decide(policies: Policies, name: str, quality: float, owner: str | None = None) -> None:
    """A decision for one of two equal models of this quality."""
    q, c = np.array([quality, quality]), np.array([0.1, 0.2])
    policies.move(name, owner, policies[name].decide(q, c, EVERYONE)[1])


def names(number: int) -> list[str]:
    return [policy_name(0.5, [f"model {index}", "other"]) for index in range(number)]


def test_requirements_count_to_three_digits_and_candidates_in_any_order() -> None:
    assert policy_name(0.8001, ["b", "a"]) == policy_name(0.8, ["a", "b"])
    assert policy_name(0.801, ["a", "b"]) != policy_name(0.8, ["a", "b"])
    assert policy_name(0.8, ["a"]) != policy_name(0.8, ["a", "b"])


def test_a_caller_pushes_out_only_its_own_policies() -> None:
    policies = Policies()
    policies.begin("configured", None, STARTED)
    policies.begin("of another", "friend", STARTED)
    for name in names(MOST_OF_CALLER + 5):
        policies.begin(name, "greedy", STARTED)
    assert set(policies) == {"configured", "of another", *names(MOST_OF_CALLER + 5)[5:]}


def test_the_least_recently_used_policy_of_a_pool_goes_first() -> None:
    policies = Policies()
    first, second, *others = names(MOST_OF_CALLER + 1)
    for name in (first, second, *others[:-1]):
        policies.begin(name, "caller", STARTED)
    decide(policies, first, 0.5, "caller")
    policies.begin(others[-1], "caller", STARTED)
    assert first in policies
    assert second not in policies


def test_what_the_server_is_configured_with_is_bounded_too() -> None:
    policies = Policies()
    for name in names(MOST_CONFIGURED + 3):
        policies.begin(name, None, STARTED)
    assert len(policies) == MOST_CONFIGURED


def test_the_number_of_callers_is_bounded() -> None:
    policies = Policies()
    policies.begin("configured", None, STARTED)
    for number in range(MOST_CALLERS + 7):
        policies.begin(f"policy {number}", f"caller {number}", STARTED)
    assert len(policies) == MOST_CALLERS + 1
    assert "configured" in policies
    assert "policy 6" not in policies
    assert "policy 7" in policies


def test_a_new_caller_takes_over_the_policy_of_the_one_that_it_pushes_out() -> None:
    policies = Policies()
    for number in range(MOST_CALLERS):
        policies.begin(f"policy {number}", f"caller {number}", STARTED)
    decide(policies, "policy 0", 0.2, "new")
    assert policies["policy 0"].decisions == STARTED.decisions + 1
    assert len(policies) == MOST_CALLERS


def test_two_owners_share_a_policy_until_neither_holds_it() -> None:
    policies = Policies()
    policies.begin("same", "one", STARTED)
    decide(policies, "same", 0.2, "two")  # the other holds it by using it
    moved = policies["same"]
    for name in names(MOST_OF_CALLER):
        policies.begin(name, "one", STARTED)
    assert policies["same"] == moved
    for name in names(MOST_OF_CALLER):
        policies.begin(name, "two", STARTED)
    assert "same" not in policies
    assert len(policies) == MOST_OF_CALLER


def test_a_policy_that_begins_anew_keeps_its_multiplier() -> None:
    policies = Policies()
    policies.begin("name", None, STARTED)
    decide(policies, "name", 0.2)
    moved = policies["name"]
    policies.begin("name", None, replace(STARTED, optimism=0.03))
    assert policies["name"] == replace(moved, optimism=0.03)


def test_a_report_holds_what_was_decided_since_the_policy_began() -> None:
    policies = Policies()
    policies.begin("name", None, STARTED)
    for _ in range(3):
        decide(policies, "name", 0.2)
    report = policies.report()["name"]
    assert report.policy == policies["name"]
    assert report.counts.decisions == 3
    assert report.counts.stepped == pytest.approx(sum(4 / (1001 + i) ** 0.5 for i in range(3)))
    assert report.counts.moved == pytest.approx(0.3 * report.counts.stepped)
    assert report.counts.offset == 0


def test_what_offsets_of_the_aim_moved_is_told_apart() -> None:
    policies = Policies()
    policies.begin("name", None, replace(STARTED, offset=0.04))
    decide(policies, "name", 0.5)
    counts = policies.report()["name"].counts
    assert counts.offset == pytest.approx(0.04 * STARTED.step)
    assert counts.moved == pytest.approx(counts.offset)


def test_a_report_is_repeated_until_the_store_has_answered_it() -> None:
    policies = Policies()
    policies.begin("name", None, STARTED)
    decide(policies, "name", 0.2)
    first = policies.report()
    assert policies.report() == first
    policies.merge({"name": Shared(STARTED, first["name"].counts)})
    assert policies.report() == {}
    decide(policies, "name", 0.2)
    assert policies.report().keys() == {"name"}


def test_merging_keeps_what_was_decided_after_the_report() -> None:
    policies = Policies()
    policies.begin("name", None, replace(STARTED, optimism=0.02))
    decide(policies, "name", 0.2)
    counts = policies.report()["name"].counts
    decide(policies, "name", 0.9)
    late = policies.report()["name"].counts.moved - counts.moved
    assert late < 0
    theirs = Policy(0.5, 0.07, 0.5, REACH, 5000, error=1.0, scores=9.0, offset=0.01)
    for _ in range(2):  # an answer that arrives twice changes nothing more
        policies.merge({"name": Shared(theirs, counts)})
        merged = policies["name"]
        assert merged.multiplier == pytest.approx(0.5 * np.exp(late))
        assert merged == replace(
            theirs,
            optimism=0.02,
            missed=merged.missed,
            multiplier=merged.multiplier,
            decisions=5001,
        )


def test_an_answer_for_an_earlier_life_is_ignored() -> None:
    policies = Policies()
    policies.begin("name", None, STARTED)
    life = policies.report()["name"].counts.life
    policies.merge({"name": Shared(replace(STARTED, multiplier=1.0), Counts(life - 1, 50))})
    assert policies["name"] == STARTED


def test_a_router_that_joins_starts_with_the_multiplier_of_the_others() -> None:
    policies = Policies()
    theirs = Policy(0.5, 0.07, 0.5, REACH, 5000)
    policies.merge({"name": Shared(theirs, None)})
    assert "name" not in policies
    policies.begin("name", None, replace(STARTED, optimism=0.02))
    assert policies["name"] == replace(theirs, optimism=0.02)


def test_a_multiplier_of_an_earlier_version_gets_the_reach_of_past_queries() -> None:
    policies = Policies()
    theirs = Policy(0.5, 0.07, 0.5, None, 5000)
    policies.merge({"name": Shared(theirs, None)})
    policies.begin("name", None, STARTED)
    assert policies["name"] == replace(theirs, optimism=STARTED.optimism, reach=REACH)


def test_policies_heard_of_are_bounded() -> None:
    policies = Policies()
    theirs = Policy(0.5, 0.0, 0.5, REACH, 5000)
    policies.merge({name: Shared(theirs, None) for name in names(1000)})
    for name in names(1000):
        policies.begin(name, "caller", STARTED)
        assert policies[name].multiplier in (0.01, 0.5)
        if policies[name].multiplier == 0.5:
            break
    else:
        pytest.fail("nothing was remembered")
    assert int(name.split("model ")[1].split('"')[0]) > 900


def test_a_single_candidate_counts_as_no_decision() -> None:
    policies = Policies()
    policies.begin("name", None, STARTED)
    before = policies.report()
    _, policy = policies["name"].decide(np.zeros(2), np.ones(2), np.array([True, False]))
    policies.move("name", None, policy)
    assert policies.report() == before


def test_free_models_are_exchanged_without_a_multiplier() -> None:
    policies = Policies()
    policies.begin("name", None, Policy(0.5))
    free = policies["name"].decide(np.array([0.2, 0.4]), np.zeros(2), EVERYONE)[1]
    policies.move("name", None, free)
    counts = policies.report()["name"].counts
    assert (counts.decisions, counts.moved) == (1, 0.0)
    policies.merge({"name": Shared(free, counts)})
    assert policies["name"] == free
