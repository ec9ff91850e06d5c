"""Promise: single requests hold the mean they want at the least cost, and say why."""

from dataclasses import replace

import numpy as np
import pytest
from deciders import EASY, HARD, MODELS, PRICES, decide, known, nothing, prepare, question, warm

from deployments.contract import ChatRequest
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.routing.decider import Decider
from serve.routing.prices import Price


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
    assert len(decider.policies) == 0


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


def test_what_a_caller_allows_bounds_the_predicted_length() -> None:
    decider = warm()
    asked = {"model": "auto", "messages": [{"role": "user", "content": "easy"}]}
    free, short = (
        decide(decider, question(chat=ChatRequest.model_validate({**asked, **limit})))
        for limit in ({}, {"max_tokens": 5})
    )
    assert set(short.output_tokens.values()) == {5}
    assert all(length == pytest.approx(100, rel=0.1) for length in free.output_tokens.values())
    assert short.cost["large"] == pytest.approx(free.cost["large"] - 95 * 1.2e-5, rel=0.1)


def test_the_quality_of_a_model_without_a_score_is_said_to_be_guessed() -> None:
    assert set(decide(Decider(nothing(), PRICES), question()).guessed) == set(MODELS)
    snapshot = known()
    snapshot.quality[:, 1] = np.nan
    decider = Decider(SnapshotEvidence(snapshot), PRICES)
    assert decide(decider, question()).guessed == ["middle"]
    assert not decide(warm(), question()).guessed


def test_a_configured_prior_counts_more_than_the_price() -> None:
    decider = Decider(nothing(), PRICES, priors={"small": 0.9})
    quality = decide(decider, question()).quality
    assert quality["small"] > quality["large"]


def test_a_request_without_text_is_decided_by_the_models_means() -> None:
    decider = warm()
    blind = decide(decider, question(query=""))
    assert blind.quality["small"] == pytest.approx(0.5, abs=0.1)
    assert blind.quality["large"] == pytest.approx(0.95, abs=0.05)


def test_a_predictor_outlives_a_change_of_prices() -> None:
    snapshot, before = known(), warm()
    after = Decider(SnapshotEvidence(snapshot), {**PRICES, "small": Price(1e-5, 4e-5)})
    after.use(after.forecaster(fitted=before.fitted))
    assert decide(after, question(requirement=0.8, floor=True)).models[0] == "middle"


def test_if_all_models_are_free_the_best_answers() -> None:
    snapshot = known()
    decider = Decider(SnapshotEvidence(snapshot), dict.fromkeys(PRICES, Price(0, 0)))
    decider.use(decider.forecaster(fitted=decider.refit(snapshot)))
    ranked = [decide(decider, question(hard=True)).models[0] for _ in range(20)]
    assert set(ranked) == {"large"}


def test_nothing_available_and_unknown_models_are_errors() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        decide(warm(), question(available=()))
    with pytest.raises(ValueError, match="no model 'other'"):
        decide(warm(), question(available=("other",)))


def test_choosing_a_model_that_is_scaled_to_zero_moves_no_policy() -> None:
    decider, best = warm(), question(hard=True, requirement=1.0)
    decide(decider, best)  # so that there is a policy
    before = decider.policies.report()
    assert decide(decider, replace(best, asleep=("large",))).models[0] == "large"
    assert decider.policies.report() == before
    decide(decider, best)
    assert decider.policies.report() != before


@pytest.mark.parametrize("more", [{}, {"floor": True}, {"available": MODELS[:1]}])
@pytest.mark.parametrize("begun", [True, False])
def test_a_preview_agrees_with_the_decision_and_moves_nothing(
    begun: bool, more: dict[str, object]
) -> None:
    decider = warm()
    for number in range(40):
        asked = question(hard=number % 3 == 0, **more)
        if begun:
            prepare(decider, asked)
        embedding = HARD if number % 3 == 0 else EASY
        before = {name: decider.policies[name] for name in decider.policies}
        first, second = (decider.preview(asked, embedding, neighbours=3) for _ in range(2))
        assert first == second
        assert before == {name: decider.policies[name] for name in decider.policies}
        assert decider.decide(asked, embedding) == first.ranking
        assert len(first.near) == 3
        ranking, multiplier = first.ranking, first.multiplier
        if multiplier is not None:
            scores = [ranking.cost[m] - multiplier * ranking.quality[m] for m in ranking.models]
            assert scores == sorted(scores)
        else:
            assert asked.floor or len(asked.available) == 1
