"""Promise: many routers hold one mean together, whatever gets lost between them and the store."""

import json
from dataclasses import replace
from math import log

import numpy as np
import pytest
from clocks import Clock

from deployments.store.observations import Scored
from serve.routing.arrays import Floats
from serve.routing.optimise.online import Policy
from serve.routing.optimise.reach import Reach
from serve.routing.policies import Policies, policy_name
from serve.routing.shared_policies import SharedPolicies

NAME = policy_name(0.5, ["a", "b"])
# Too wide to bound anything here.
REACH = Reach(log(0.01), 16.0, log(0.01), 16.0)
STARTED = Policy(0.5, multiplier=0.01, reach=REACH, decisions=1000)
EVERYONE = np.ones(5, np.bool_)


class Routers:
    """Routers with a policy of the same name, and the store's side."""

    def __init__(self, number: int, start: Policy = STARTED) -> None:
        self.clock = Clock()
        self.store = SharedPolicies(self.clock)
        self.each: dict[str, Policies] = {}
        for index in range(number):
            self.join(f"router {index}", start)

    def join(self, router: str, start: Policy = STARTED) -> Policies:
        policies = self.each[router] = Policies()
        policies.begin(NAME, None, start)
        return policies

    def exchange(self) -> None:
        """Once each, one after the other; then a second has passed."""
        for router, policies in self.each.items():
            policies.merge(self.store.exchange(router, policies.report()))
        self.clock.now += 1.0

    @property
    def shared(self) -> Policy:
        state = self.store.to_dict()[NAME]
        return Policy.from_dict({key: state[key] for key in state if key != "owed"})

    @property
    def multiplier(self) -> float:
        assert self.shared.multiplier is not None
        return self.shared.multiplier

    @property
    def owed(self) -> float:
        return float(self.store.to_dict()[NAME]["owed"])


def decide(policies: Policies, quality: float, times: int = 1) -> None:
    """Decisions between two equal models of this quality: each moves λ by a known distance."""
    q, c = np.array([quality, quality]), np.array([0.1, 0.2])
    for _ in range(times):
        policies.move(NAME, None, policies[NAME].decide(q, c, np.ones(2, np.bool_))[1])


def stream(n: int, seed: int, skill: float = 0.0) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    cost = np.geomspace(1e-5, 1e-2, 5) * np.exp(random.normal(0, 0.5, (n, 5)))
    level = skill + np.linspace(-1, 1.5, 5) + random.normal(0, 1, (n, 1))
    return 1 / (1 + np.exp(-level - random.normal(0, 0.5, (n, 5)))), cost


def serve(
    routers: Routers, quality: Floats, cost: Floats, per_exchange: int, seed: int = 0
) -> Floats:
    """The predicted quality of the choice for each request, dealt to routers at random."""
    random, held = np.random.default_rng(seed), []
    for number, (q, c) in enumerate(zip(quality, cost, strict=True)):
        if number % per_exchange == 0:
            routers.exchange()
        policies = list(routers.each.values())[random.integers(len(routers.each))]
        (choice, *_), policy = policies[NAME].decide(q, c, EVERYONE)
        policies.move(NAME, None, policy)
        held.append(q[choice])
    return np.array(held)


def test_one_router_decides_as_without_a_store() -> None:
    quality, cost = stream(3000, seed=1)
    start = Policy.started(0.5, *stream(1000, seed=2))
    alone = start
    choices = []
    for q, c in zip(quality, cost, strict=True):
        (choice, *_), alone = alone.decide(q, c, EVERYONE)
        choices.append(q[choice])
    routers = Routers(1, start)
    assert serve(routers, quality, cost, per_exchange=500).tolist() == choices
    assert routers.owed == 0
    assert routers.shared.offset == 0


def test_few_decisions_between_exchanges_add_up() -> None:
    routers = Routers(4)
    routers.exchange()
    for policies in routers.each.values():
        decide(policies, 0.4)
    routers.exchange()
    assert routers.shared.decisions == 1004
    assert routers.shared.multiplier == pytest.approx(0.01 * np.exp(0.1 * 4 * STARTED.step))
    for policies in routers.each.values():
        decide(policies, 0.5)  # as good as the aim, so it moves nothing
    routers.exchange()
    multipliers = {policies[NAME].multiplier for policies in routers.each.values()}
    assert multipliers == {routers.shared.multiplier}


def test_many_decisions_between_exchanges_are_averaged_and_the_rest_is_owed() -> None:
    routers = Routers(2)
    routers.exchange()
    for policies in routers.each.values():
        decide(policies, 0.49, times=1000)
    moved = [policies.report()[NAME].counts.moved for policies in routers.each.values()]
    routers.exchange()
    # The first report is the only one that the store knows of; the second counts half.
    distance = np.log(routers.multiplier / 0.01)
    assert distance == pytest.approx(moved[0] + moved[1] / 2)
    assert routers.owed == pytest.approx(sum(moved) - distance)
    assert routers.shared.offset > 0
    decide(routers.each["router 1"], 0.5, times=10)
    before = routers.owed
    routers.exchange()
    assert 0 < routers.owed < before


@pytest.mark.parametrize(("routers", "per_exchange"), [(16, 100), (64, 100), (16, 400)])
def test_many_routers_hold_the_mean_when_queries_become_harder(
    routers: int, per_exchange: int
) -> None:
    easy, hard = stream(5_000, seed=1), stream(10_000, seed=3, skill=-0.5)
    fleet = Routers(routers, Policy.started(0.5, *stream(1000, seed=2)))
    quality, cost = (np.concatenate(both) for both in zip(easy, hard, strict=True))
    held = serve(fleet, quality, cost, per_exchange)
    assert held.mean() == pytest.approx(0.5, abs=0.01)
    assert held[-5_000:].mean() == pytest.approx(0.5, abs=0.02)


def test_the_total_shortfall_stays_within_the_stated_bound() -> None:
    per_exchange = 500
    quality, cost = stream(20_000, seed=5, skill=-0.3)
    start = replace(Policy.started(0.5, *stream(1000, seed=2)), decisions=6400)  # the last step
    fleet = Routers(16, start)
    held = serve(fleet, quality, cost, per_exchange)
    assert start.multiplier is not None
    travelled = abs(np.log(fleet.multiplier / start.multiplier)) + abs(fleet.owed)
    assert abs((0.5 - held).sum()) <= travelled / 0.05 + per_exchange
    assert abs((0.5 - held).sum()) >= 1  # so that the bound isn't met by a router that holds all


def test_a_lost_request_or_reply_loses_no_decision_and_counts_none_twice() -> None:
    lossless, lossy = Routers(2), Routers(2)
    random = np.random.default_rng(0)
    lossless.exchange()
    lossy.exchange()
    for _ in range(30):
        for fleet in (lossless, lossy):
            for policies in fleet.each.values():
                decide(policies, 0.4)
        lossless.exchange()
        for router, policies in lossy.each.items():
            fate = random.integers(3)
            if fate > 0:
                answer = lossy.store.exchange(router, policies.report())
            if fate > 1:
                policies.merge(answer)
        lossy.clock.now += 1.0
    for fleet in (lossless, lossy):
        fleet.exchange()
        fleet.exchange()
    assert lossy.shared.decisions == lossless.shared.decisions == 1060
    assert lossy.shared.multiplier == pytest.approx(lossless.shared.multiplier, rel=0.02)


def test_a_report_that_arrives_late_or_twice_changes_nothing() -> None:
    routers = Routers(1)
    policies = routers.each["router 0"]
    routers.exchange()
    decide(policies, 0.4)
    early = policies.report()
    decide(policies, 0.4)
    policies.merge(routers.store.exchange("router 0", policies.report()))
    before = routers.store.to_dict()
    for _ in range(2):
        policies.merge(routers.store.exchange("router 0", early))
    assert routers.store.to_dict() == before
    assert policies[NAME].multiplier == pytest.approx(routers.shared.multiplier)


def test_a_store_that_lost_everything_learns_it_from_the_routers() -> None:
    routers = Routers(3)
    routers.exchange()
    for _ in range(5):
        for policies in routers.each.values():
            decide(policies, 0.3)
        routers.exchange()
    routers.store.correct(Scored("a", 0.6, NAME, None), 0.1)
    for policies in routers.each.values():
        decide(policies, 0.3)
    routers.exchange()
    before, multiplier = routers.shared, routers.multiplier
    routers.store = SharedPolicies(routers.clock)
    for policies in routers.each.values():
        decide(policies, 0.5)
    routers.exchange()
    assert routers.multiplier == pytest.approx(multiplier, rel=0.1)
    assert (routers.shared.error, routers.shared.scores) == (before.error, before.scores)
    for policies in routers.each.values():
        decide(policies, 0.3)
    routers.exchange()
    assert routers.multiplier > 1.05 * multiplier


def test_routers_that_carried_on_know_more_than_a_restored_store() -> None:
    routers = Routers(1)
    routers.exchange()
    saved = json.loads(json.dumps(routers.store.to_dict()))
    policies = routers.each["router 0"]
    decide(policies, 0.1, times=50)
    routers.store = SharedPolicies(routers.clock)
    routers.store.restore(saved, ["a", "b"])
    multiplier = policies[NAME].multiplier
    routers.exchange()
    assert policies[NAME].multiplier == routers.shared.multiplier == multiplier


def test_a_router_that_joins_takes_over_the_shared_multiplier() -> None:
    routers = Routers(2)
    routers.exchange()
    for policies in routers.each.values():
        decide(policies, 0.1, times=20)
    routers.exchange()
    late = Policies()
    late.merge(routers.store.exchange("late", late.report()))
    late.begin(NAME, None, STARTED)  # which it needs only now
    assert late[NAME].multiplier == routers.shared.multiplier
    early = routers.join("early")  # it began before it first heard of the store
    decide(early, 0.9, times=3)
    early.merge(routers.store.exchange("early", early.report()))
    assert early[NAME].multiplier == routers.shared.multiplier


def test_a_router_that_vanished_has_no_say() -> None:
    routers = Routers(2)
    routers.exchange()
    decide(routers.each["router 1"], 0.49, times=1000)
    routers.exchange()
    del routers.each["router 1"]
    routers.clock.now += 5.0
    before = routers.multiplier
    decide(routers.each["router 0"], 0.49, times=1000)
    moved = routers.each["router 0"].report()[NAME].counts.moved
    routers.exchange()
    assert routers.shared.multiplier == pytest.approx(before * np.exp(moved))


def test_scores_reach_every_router() -> None:
    routers = Routers(2)
    routers.exchange()
    aim = routers.each["router 0"][NAME].aim
    for _ in range(50):
        routers.store.correct(Scored("a", 0.8, NAME, None), 0.3)
    routers.store.correct(Scored("a", 0.8, "unknown", None), 0.3)
    routers.store.correct(Scored("a", None, NAME, None), 0.3)
    for policies in routers.each.values():
        decide(policies, 0.5)
    routers.exchange()
    for policies in routers.each.values():
        assert policies[NAME].aim > aim + 0.1
    with pytest.raises(ValueError, match="between 0 and 1"):
        routers.store.correct(Scored("a", 0.8, NAME, None), 2.0)


def test_policies_survive_a_restart() -> None:
    routers = Routers(2)
    routers.exchange()
    for policies in routers.each.values():
        decide(policies, 0.49, times=1000)
    routers.exchange()
    saved = json.loads(json.dumps(routers.store.to_dict()))
    again = SharedPolicies()
    again.restore(saved, ["a", "b", "new"])
    assert again.to_dict() == saved
    without = SharedPolicies()
    without.restore(saved, ["a"])
    assert without.to_dict() == {}


def test_policies_with_pairs_to_probe_survive_a_restart_as_long_as_both_models_are_there() -> None:
    saved = {policy_name(0.5, ["a", "b", "c", "a\nb"]): {**STARTED.to_dict(), "owed": 0.0}}
    again = SharedPolicies()
    again.restore(saved, ["a", "b", "c"])
    assert again.to_dict() == saved
    without = SharedPolicies()
    without.restore(saved, ["a", "c"])
    assert without.to_dict() == {}


def test_states_from_before_routers_had_policies_can_be_read() -> None:
    state = {
        "requirement": 0.8,
        "optimism": 0.01,
        "multiplier": 0.02,
        "scale": 0.1,  # of an earlier version
        "decisions": 1500,
        "error": 1.0,
        "scores": 8.0,
    }
    name = policy_name(0.8, ["a", "b"])
    store = SharedPolicies()
    store.restore({name: state}, ["a", "b"])
    policy = store.to_dict()[name]
    assert (policy["requirement"], policy["multiplier"], policy["decisions"]) == (0.8, 0.02, 1500)


def test_callers_policies_push_out_none_that_the_server_is_configured_with() -> None:
    routers = Routers(1)
    routers.exchange()
    for number in range(150):
        caller = Policies()
        for index in range(10):
            caller.begin(f"{number} {index}", "caller", STARTED)
        routers.store.exchange(f"caller {number}", caller.report())
    kept = routers.store.to_dict()
    assert NAME in kept
    assert len(kept) == 1000


def test_a_router_that_seldom_decides_is_not_met_anew_each_time() -> None:
    routers = Routers(2)
    routers.exchange()
    for _ in range(10):
        for policies in routers.each.values():
            decide(policies, 0.4)
            routers.exchange()
            routers.clock.now += 600
    routers.exchange()
    assert routers.shared.decisions == STARTED.decisions + 20
