"""Promise: single requests hold the mean they want at the least cost, and say why."""

import json
from dataclasses import replace

import numpy as np
import pytest

from deployments.store.evidence import Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from deployments.store.observations import Scored
from serve.routing.decider import MAX_POLICIES, Decider
from serve.routing.prices import Price
from serve.routing.strategy import BatchQuestion, Question, Ranking

PRICES = {"small": Price(1e-7, 4e-7), "middle": Price(5e-7, 2e-6), "large": Price(3e-6, 1.2e-5)}
MODELS = tuple(PRICES)
EASY, HARD = np.eye(8, dtype=np.float32)[:2]


def nothing(models: int = 3) -> SnapshotEvidence:
    none = np.zeros((0, models), np.float32)
    return SnapshotEvidence(Snapshot([], np.zeros((0, 8), np.float32), none, none, none))


def known(rows: int = 400) -> Snapshot:
    """Easy queries go well everywhere, hard ones with the large model alone."""
    random = np.random.default_rng(0)
    hard = np.arange(rows) % 2 == 1
    embeddings = np.where(hard[:, None], HARD, EASY) + random.normal(0, 0.02, (rows, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    chance = np.where(hard[:, None], [0.05, 0.3, 0.95], [0.93, 0.95, 0.97])
    quality = (random.random((rows, 3)) < chance).astype(np.float32)
    tokens = np.full((rows, 3), 100, np.float32)
    return Snapshot(
        [f"{'hard' if h else 'easy'} {i}" for i, h in enumerate(hard)],
        embeddings.astype(np.float32),
        quality,
        tokens,
        np.ones((rows, 3), np.float32),
    )


def warm(**more: object) -> Decider:
    snapshot = known()
    decider = Decider(SnapshotEvidence(snapshot), PRICES, **more)  # type: ignore[arg-type]
    decider.adopt(decider.refit(snapshot))
    return decider


def decide(decider: Decider, question: Question) -> Ranking:
    return decider.decide(question, {"easy": EASY, "hard": HARD}.get(question.query))


def question(hard: bool = False, **more: object) -> Question:
    fields = {
        "query": "hard" if hard else "easy",
        "characters": 400,
        "candidates": MODELS,
        "available": MODELS,
        "requirement": 0.9,
    }
    return Question(**{**fields, **more})  # type: ignore[arg-type]


def batch(
    queries: list[str],
    *,
    requirement: float = 0.9,
    floor: bool = False,
    capacities: dict[str, float] | None = None,
) -> BatchQuestion:
    return BatchQuestion(
        queries, [MODELS] * len(queries), requirement, floor, capacities=capacities
    )


def test_easy_queries_go_to_the_cheap_model_and_hard_ones_to_the_expensive_one() -> None:
    decider = warm()
    easy, hard = zip(
        *[(decide(decider, question()), decide(decider, question(hard=True))) for _ in range(50)],
        strict=True,
    )
    assert [decision.models[0] for decision in easy].count("small") > 40
    assert [decision.models[0] for decision in hard].count("large") > 40
    assert sorted(easy[0].models) == sorted(MODELS)
    assert easy[0].cost["small"] < easy[0].cost["large"]


def test_the_running_mean_holds_the_requirement_at_less_than_the_best_models_cost() -> None:
    decider = warm()
    random = np.random.default_rng(1)
    quality, cost, best = [], 0.0, 0.0
    for hard in random.random(600) < 0.5:
        decision = decide(decider, question(hard=bool(hard), requirement=0.9))
        chosen = decision.models[0]
        quality.append(decision.quality[chosen])
        cost, best = cost + decision.cost[chosen], best + decision.cost["large"]
    assert np.mean(quality) == pytest.approx(0.9, abs=0.03)
    assert cost < 0.6 * best


def test_policies_of_other_requirements_or_candidates_are_independent() -> None:
    decider, alone = warm(), warm()
    for _ in range(200):
        decide(decider, question(requirement=0.1))
        decide(decider, question(requirement=0.99))
        decide(decider, question(candidates=("small", "middle"), available=("small", "middle")))
        assert decide(decider, question(hard=True)) == decide(alone, question(hard=True))


def test_a_floor_is_for_one_request_and_moves_no_policy() -> None:
    decider = warm()
    assert decide(decider, question(requirement=0.8, floor=True)).models[0] == "small"
    assert decide(decider, question(hard=True, requirement=0.8, floor=True)).models[0] == "large"
    beyond = decide(decider, question(requirement=1.0, floor=True))
    assert beyond.models[0] == max(beyond.quality, key=beyond.quality.__getitem__)
    assert beyond.policy is None
    assert decider.policies() == {}


def test_a_model_that_is_not_available_is_never_ranked() -> None:
    decision = decide(warm(), question(hard=True, available=("small", "middle")))
    assert sorted(decision.models) == ["middle", "small"]


def test_a_cold_start_decides_by_price_and_says_so() -> None:
    decider = Decider(nothing(), PRICES)
    decision = decide(decider, question(requirement=0.6))
    assert decider.cold
    assert "cold start" in decision.reason
    assert decision.quality["small"] < decision.quality["middle"] < decision.quality["large"]
    assert all(0 < quality < 1 for quality in decision.quality.values())


# Guessed from these prices: .58 and .72.
TWO = {"cheap": Price(1e-7, 4e-7), "dear": Price(8e-7, 3.6e-6)}


@pytest.mark.parametrize(
    ("requirement", "first"), [(0.96, "dear"), (0.7, "dear"), (0.6, "dear"), (0.5, "cheap")]
)
@pytest.mark.parametrize("floor", [False, True])
def test_a_cold_start_holds_the_requirement_from_the_first_request_on(
    requirement: float, first: str, floor: bool
) -> None:
    both = tuple(TWO)
    asked = question(candidates=both, available=both, requirement=requirement, floor=floor)
    decision = decide(Decider(nothing(2), TWO), asked)
    assert decision.quality == pytest.approx({"cheap": 0.58, "dear": 0.72}, abs=0.01)
    assert decision.models[0] == first


def test_after_a_cold_start_the_requirement_still_holds() -> None:
    both = tuple(TWO)
    decider = Decider(nothing(2), TWO)

    def choices(requirement: float) -> list[str]:
        asked = question(candidates=both, available=both, requirement=requirement)
        return [decide(decider, asked).models[0] for _ in range(40)]

    assert choices(0.96) == ["dear"] * 40  # more than there is: always the best
    assert choices(0.5) == ["cheap"] * 40
    assert 15 <= choices(0.65).count("dear") <= 25  # half way between the two


def test_a_configured_prior_counts_more_than_the_price() -> None:
    decider = Decider(nothing(), PRICES, priors={"small": 0.9})
    quality = decide(decider, question()).quality
    assert quality["small"] > quality["large"]


def test_a_request_without_text_is_decided_by_the_models_means() -> None:
    decider = warm()
    blind = decide(decider, question(query=""))
    assert blind.quality["small"] == pytest.approx(0.5, abs=0.1)
    assert blind.quality["large"] == pytest.approx(0.95, abs=0.05)


def test_bad_scores_raise_the_price_of_quality_for_later_requests() -> None:
    scored, unscored = warm(), warm()
    first, _ = decide(scored, question()), decide(unscored, question())
    for _ in range(100):
        scored.correct(Scored("small", first.quality["small"], first.policy, None), 0.0)
        decide(scored, question())
        decide(unscored, question())
    policy, other = (d.policies()[str(first.policy)] for d in (scored, unscored))
    assert policy["multiplier"] > 1.2 * other["multiplier"]


def test_policies_survive_a_restart() -> None:
    decider = warm()
    for _ in range(20):
        decide(decider, question(hard=True))
    kept = json.loads(json.dumps(decider.policies()))
    again = warm()
    again.restore(kept)
    assert again.policies() == decider.policies()
    assert decide(again, question()) == decide(decider, question())


def test_policies_over_removed_models_are_dropped() -> None:
    decider = warm()
    decide(decider, question())
    other = Decider(nothing(), {"small": PRICES["small"]})
    other.restore(decider.policies())
    assert other.policies() == {}


def test_the_number_of_policies_is_bounded() -> None:
    decider = Decider(nothing(), PRICES)
    for number in range(MAX_POLICIES + 20):
        decide(
            decider,
            question(
                requirement=(number % 1000) / 1000,
                candidates=MODELS[: 2 + number // 1000],
                available=MODELS[:2],
            ),
        )
    assert len(decider.policies()) == MAX_POLICIES


def test_a_predictor_outlives_a_change_of_prices() -> None:
    snapshot, before = known(), warm()
    after = Decider(SnapshotEvidence(snapshot), {**PRICES, "small": Price(1e-5, 4e-5)})
    after.adopt(before.fitted)
    assert decide(after, question(requirement=0.8, floor=True)).models[0] == "middle"


def test_a_policy_keeps_its_multiplier_after_a_refit() -> None:
    decider = warm()
    for _ in range(50):
        name = str(decide(decider, question(hard=True)).policy)
    before = decider.policies()[name]["multiplier"]
    decider.adopt(decider.refit(known(300)))
    decide(decider, question(hard=True))
    assert decider.policies()[name]["multiplier"] == pytest.approx(before, rel=0.2)


def test_if_all_models_are_free_the_best_answers() -> None:
    snapshot = known()
    decider = Decider(SnapshotEvidence(snapshot), dict.fromkeys(PRICES, Price(0, 0)))
    decider.adopt(decider.refit(snapshot))
    ranked = [decide(decider, question(hard=True)).models[0] for _ in range(20)]
    assert set(ranked) == {"large"}


def test_a_batch_is_decided_whole_without_moving_a_policy() -> None:
    decider = warm()
    embeddings = np.stack([EASY, HARD] * 50)
    routes = decider.route(batch(["easy", "hard"] * 50), embeddings)
    assert routes.assignment.shortfall == 0
    assert (routes.assignment.choice[1::2] == 2).mean() > 0.8
    assert (routes.assignment.choice[::2] != 2).all()
    assert routes.near.shape == routes.similarity.shape == (100, 5)
    assert (routes.similarity > 0.9).all()
    limited = decider.route(
        batch(["hard"] * 10, capacities={"small": 9, "middle": 9, "large": 4}),
        np.stack([HARD] * 10),
    )
    assert np.bincount(limited.assignment.choice, minlength=3)[2] == 4
    assert limited.assignment.shortfall > 0
    floor = decider.route(
        batch(["easy", "hard"], requirement=0.8, floor=True), np.stack([EASY, HARD])
    )
    assert floor.assignment.choice.tolist() == [0, 2]
    assert decider.policies() == {}


def test_nothing_available_and_unknown_models_are_errors() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        decide(warm(), question(available=()))
    with pytest.raises(ValueError, match="no model 'other'"):
        decide(warm(), question(available=("other",)))


def test_choosing_a_model_that_is_scaled_to_zero_moves_no_policy() -> None:
    decider, best = warm(), question(hard=True, requirement=1.0)
    decide(decider, best)  # so that there is a policy
    before = decider.policies()
    assert decide(decider, replace(best, asleep=("large",))).models[0] == "large"
    assert decider.policies() == before
    decide(decider, best)
    assert decider.policies() != before
