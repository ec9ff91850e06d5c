"""Promise: the running mean holds the requirement, at nearly the cost of a batch."""

import json

import numpy as np
import pytest

from serve.routing.arrays import Booleans, Floats
from serve.routing.optimise.batch import assign
from serve.routing.optimise.online import Policy


def stream(n: int, seed: int = 0, models: int = 5) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    cost = np.geomspace(1e-5, 1e-2, models) * np.exp(random.normal(0, 0.5, (n, models)))
    skill = np.linspace(-1, 1.5, models) + random.normal(0, 1, (n, 1))
    return 1 / (1 + np.exp(-skill - random.normal(0, 0.5, (n, models)))), cost


def run(policy: Policy, quality: Floats, cost: Floats) -> tuple[float, float, Policy]:
    """What was spent, the mean predicted quality, and the policy afterwards."""
    everyone = np.ones(quality.shape[1], np.bool_)
    spent = quality_sum = 0.0
    for q, c in zip(quality, cost, strict=True):
        (choice, *_), policy = policy.decide(q, c, everyone)
        spent += float(c[choice])
        quality_sum += float(q[choice])
    return spent, quality_sum / len(quality), policy


@pytest.mark.parametrize("requirement", [0.5, 0.6, 0.7, 0.75])
def test_a_started_policy_costs_within_two_percent_of_the_batch(requirement: float) -> None:
    policy = Policy.started(requirement, *stream(1000, seed=1))
    quality, cost = stream(4000, seed=2)
    spent, mean, _ = run(policy, quality, cost)
    assert mean >= requirement - 0.005
    assert spent <= 1.02 * assign(quality, cost, mean).cost


@pytest.mark.parametrize("requirement", [0.5, 0.7])
def test_a_policy_that_starts_from_nothing_finds_its_multiplier(requirement: float) -> None:
    quality, cost = stream(4000, seed=3)
    spent, mean, _ = run(Policy(requirement), quality, cost)
    assert mean == pytest.approx(requirement, abs=0.01)
    assert spent <= 1.1 * assign(quality, cost, mean).cost


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_cost_changes_no_choice(factor: float) -> None:
    quality, cost = stream(500, seed=4)
    _, mean, _ = run(Policy(0.6), quality, cost)
    _, scaled, _ = run(Policy(0.6), quality, cost * factor)
    assert scaled == pytest.approx(mean, abs=1e-9)


def test_policies_of_different_requirements_do_not_disturb_each_other() -> None:
    quality, cost = stream(1000, seed=5)
    everyone = np.ones(5, np.bool_)
    alone = run(Policy(0.55), quality, cost)
    policies = {0.55: Policy(0.55), 0.78: Policy(0.78)}
    total = {0.55: 0.0, 0.78: 0.0}
    for q, c in zip(quality, cost, strict=True):
        for requirement in policies:
            (choice, *_), policies[requirement] = policies[requirement].decide(q, c, everyone)
            total[requirement] += q[choice]
    assert policies[0.55] == alone[2]
    assert total[0.55] / 1000 == pytest.approx(0.55, abs=0.02)
    assert total[0.78] / 1000 == pytest.approx(0.78, abs=0.02)


def test_the_multiplier_comes_down_again_after_an_unreachable_requirement() -> None:
    quality, cost = stream(3500, seed=6)
    _, _, policy = run(Policy(0.7), quality[:2000] * 0.5, cost[:2000])
    _, _, policy = run(policy, quality[:2500], cost[:2500])
    _, mean, _ = run(policy, quality[2500:], cost[2500:])
    assert mean == pytest.approx(0.7, abs=0.03)


KINDS = {"trivial": [0.97, 0.97, 0.97], "easy": [0.93, 0.95, 0.97], "hard": [0.05, 0.3, 0.95]}
ALL, WITHOUT_THE_BEST = (np.array(of, np.bool_) for of in ([1, 1, 1], [1, 1, 0]))


def of_kind(kind: str, n: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    quality = KINDS[kind] + random.normal(0, 0.04, (n, 1)) + random.normal(0, 0.02, (n, 3))
    cost = np.array([1e-4, 5e-4, 3e-3]) * np.exp(random.normal(0, 0.4, (n, 1)))
    return np.clip(quality, 0, 1), cost


def test_there_is_no_multiplier_while_none_makes_a_difference() -> None:
    quality, cost = np.array([0.5, 0.5, 0.4]), np.array([1e-4, 1e-3, 1e-2])
    _, policy = Policy(0.9).decide(quality, cost, ALL)
    for _ in range(100):
        (choice, *_), policy = policy.decide(quality, cost, ALL)
        assert choice == 0
    assert policy.multiplier is None


@pytest.mark.parametrize("quality", [[0, 5e-324], [0, 1e-12], [0.5, 0.5], [0, 1]])
@pytest.mark.parametrize("cost", [[0, 5e-324], [1e-300, 1e-299], [0, 0], [1e-9, 1e9]])
def test_the_multiplier_is_finite_whatever_the_differences(
    quality: list[float], cost: list[float]
) -> None:
    policy, both = Policy(0.9), np.ones(2, np.bool_)
    for _ in range(20):
        _, policy = policy.decide(np.array(quality, float), np.array(cost, float), both)
        assert policy.multiplier is None or np.isfinite(policy.multiplier)
    (choice, *_), policy = policy.decide(np.array([0.5, 0.95]), np.array([1e-4, 1e-3]), both)
    assert (choice, policy.multiplier is None) == (1, False)


@pytest.mark.parametrize("started", [False, True], ids=["from nothing", "from past queries"])
@pytest.mark.parametrize(
    ("kind", "allowed"),
    [("easy", ALL), ("trivial", ALL), ("hard", WITHOUT_THE_BEST)],
    ids=["easy queries", "queries that any model answers", "an outage of the best model"],
)
def test_what_no_choice_could_change_is_soon_forgotten(
    kind: str, allowed: Booleans, started: bool
) -> None:
    """After 5,000 such requests, hard ones hold the requirement after 200 of them."""
    random, requirement = np.random.default_rng(0), 0.75
    past = of_kind("hard", 1000, random)
    policy = Policy.started(requirement, *past) if started else Policy(requirement)
    for q, c in zip(*of_kind(kind, 5000, random), strict=True):
        _, policy = policy.decide(q, c, allowed)
    chosen = []
    for q, c in zip(*of_kind("hard", 500, random), strict=True):
        (choice, *_), policy = policy.decide(q, c, ALL)
        chosen.append(q[choice])
    assert np.mean(chosen[200:]) == pytest.approx(requirement, abs=0.03)


def test_only_allowed_models_are_ranked_and_a_single_one_moves_nothing() -> None:
    quality, cost = stream(50, seed=7)
    policy = Policy(0.7)
    for q, c in zip(quality, cost, strict=True):
        ranked, policy = policy.decide(q, c, np.array([True, False, True, False, True]))
        assert sorted(ranked) == [0, 2, 4]
    ranked, after = policy.decide(quality[0], cost[0], np.arange(5) == 3)
    assert (ranked.tolist(), after) == ([3], policy)
    with pytest.raises(ValueError, match="no candidate"):
        policy.decide(quality[0], cost[0], np.zeros(5, np.bool_))


def test_bad_scores_raise_the_aim_and_a_second_score_replaces_the_first() -> None:
    policy = Policy(0.7)
    for _ in range(20):
        policy = policy.correct(0.8, 0.5)
    assert policy.aim > 0.75
    once = policy.correct(0.8, 0.0)
    assert once.correct(0.8, 0.5, replaced=0.0).aim == pytest.approx(policy.correct(0.8, 0.5).aim)
    with pytest.raises(ValueError, match="between 0 and 1"):
        policy.correct(0.8, float("nan"))


def test_a_policy_survives_serialisation() -> None:
    policy = run(Policy(0.6), *stream(100))[2].correct(0.5, 1.0)
    assert Policy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy


@pytest.mark.parametrize("requirement", [-0.1, 1.1, float("nan")])
def test_a_requirement_outside_0_to_1_is_refused(requirement: float) -> None:
    with pytest.raises(ValueError, match="performance_requirement"):
        Policy(requirement)
