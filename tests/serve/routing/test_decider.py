"""Promise: single requests hold the mean they want at the least cost, and say why."""

from dataclasses import replace

import numpy as np
import pytest

from deployments.contract import ChatRequest
from deployments.store.evidence import Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.routing.decider import Decider
from serve.routing.optimise.exploring import Explorer
from serve.routing.policies import policy_name
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
    decider.use(decider.forecaster(fitted=decider.refit(snapshot)))
    return decider


def prepare(decider: Decider, question: Question) -> None:
    """Prepares a question's policy, as a router does in a thread."""
    if name := decider.claim(question):
        decider.begin(question, decider.new_policy(name))
        decider.release(name)


def decide(decider: Decider, question: Question) -> Ranking:
    prepare(decider, question)
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


def test_a_request_whose_policy_has_not_begun_holds_the_requirement_by_itself() -> None:
    decider, asked = warm(), question(requirement=0.6)
    blind = [decider.decide(asked, HARD) for _ in range(20)]
    assert {ranking.models[0] for ranking in blind} == {"large"}
    assert {ranking.policy for ranking in blind} == {policy_name(0.6, MODELS)}
    assert len(decider.policies) == 0
    assert not decider.ready_for(asked)
    prepare(decider, asked)
    assert decider.ready_for(asked)
    assert decider.decide(asked, HARD).models[0] == "small"  # as easy queries make up for it


def test_a_policy_is_prepared_once_for_all_that_wait_for_it() -> None:
    decider = warm()
    name = decider.claim(question())
    assert name is not None
    assert decider.claim(question(owner="caller")) is None
    decider.release(name)  # it failed
    assert decider.claim(question()) == name
    decider.begin(question(), decider.new_policy(name))
    decider.release(name)
    assert decider.claim(question()) is None


def test_preparations_that_wait_are_bounded_and_callers_hold_up_only_themselves() -> None:
    decider = warm()

    def claimed(owner: str | None, number: int) -> int:
        asked = [question(requirement=i / 100, owner=owner) for i in range(number)]
        return sum(decider.claim(one) is not None for one in asked)

    assert claimed("greedy", 50) == 2
    others = [
        decider.claim(question(requirement=0.5 + index / 100, owner=f"caller {index}"))
        for index in range(40)
    ]
    assert sum(name is not None for name in others) == 6
    assert decider.claim(question(requirement=0.99)) is not None
    assert claimed(None, 50) == 7


def test_a_floor_needs_no_preparation() -> None:
    assert warm().claim(question(floor=True)) is None


def test_callers_policies_push_out_none_that_the_server_is_configured_with() -> None:
    decider = warm()
    name = str(decide(decider, question()).policy)
    for number in range(60):
        decide(decider, question(requirement=number / 100, owner="caller"))
    assert name in decider.policies
    assert len(decider.policies) < 20


def test_a_predictor_outlives_a_change_of_prices() -> None:
    snapshot, before = known(), warm()
    after = Decider(SnapshotEvidence(snapshot), {**PRICES, "small": Price(1e-5, 4e-5)})
    after.use(after.forecaster(fitted=before.fitted))
    assert decide(after, question(requirement=0.8, floor=True)).models[0] == "middle"


def test_a_policy_keeps_its_multiplier_after_a_refit() -> None:
    decider = warm()
    for _ in range(50):
        name = str(decide(decider, question(hard=True)).policy)
    before = decider.policies[name]
    decider.use(decider.forecaster(fitted=decider.refit(known(300))))
    assert not decider.ready_for(question())
    prepare(decider, question())
    after = decider.policies[name]
    assert after.optimism != before.optimism
    assert after == replace(before, optimism=after.optimism)


def test_an_outdated_policy_decides_until_it_is_prepared_anew() -> None:
    decider = warm()
    name = str(decide(decider, question()).policy)
    decider.use(decider.forecaster(fitted=decider.refit(known(300))))
    before = decider.policies[name]
    decider.decide(question(), EASY)
    assert decider.policies[name].decisions == before.decisions + 1


def test_if_all_models_are_free_the_best_answers() -> None:
    snapshot = known()
    decider = Decider(SnapshotEvidence(snapshot), dict.fromkeys(PRICES, Price(0, 0)))
    decider.use(decider.forecaster(fitted=decider.refit(snapshot)))
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
    assert len(decider.policies) == 0


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


class Learned:
    """A decider that has learned what it was told of models on hard queries."""

    def __init__(self, outcomes: dict[str, list[float]]) -> None:
        self._outcomes = {model: list(scores) for model, scores in outcomes.items()}
        self.decider = Decider(self._evidence(), PRICES)
        self.asked: list[Ranking] = []

    def ask(self, chance: dict[str, float], random: np.random.Generator) -> None:
        """A hard question, whose answer is scored."""
        wanted = question(hard=True, requirement=0.8)
        ranking = decide(self.decider, wanted)
        score = float(random.random() < chance[ranking.models[0]])
        self._outcomes[ranking.models[0]].append(score)
        self.correct(ranking, score)
        self.decider.use(self.decider.forecaster(evidence=self._evidence()))
        self.asked.append(ranking)

    def correct(self, ranking: Ranking, score: float) -> None:
        """Has the policy learn from a score, as the store's does before routers hear of it."""
        assert ranking.policy
        held = self.decider.policies._held[ranking.policy]
        held.policy = held.policy.correct(ranking.quality[ranking.models[0]], score)

    def _evidence(self) -> SnapshotEvidence:
        rows = max(map(len, self._outcomes.values()))
        quality = np.full((rows, 3), np.nan, np.float32)
        for column, model in enumerate(MODELS):
            quality[: len(self._outcomes[model]), column] = self._outcomes[model]
        known = ~np.isnan(quality)
        tokens = np.where(known, np.float32(100), np.float32(np.nan))
        return SnapshotEvidence(
            Snapshot(
                [f"hard {row}" for row in range(rows)],
                np.tile(HARD, (rows, 1)),
                quality,
                tokens,
                known.astype(np.float32),
            )
        )


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_good_model_that_began_with_six_zeros_is_asked_again(share: float) -> None:
    learned = Learned({"small": [0.0] * 40, "middle": [0.0] * 6, "large": [1.0] * 36 + [0.0] * 4})
    random = np.random.default_rng(0)
    learned.decider.explorer = Explorer(share, random.random)
    for _ in range(400):
        learned.ask({"small": 0.02, "middle": 0.95, "large": 0.9}, random)
    late = [ranking.models[0] for ranking in learned.asked[-100:]]
    explored = [ranking for ranking in learned.asked if ranking.explores]
    if not share:
        assert (late.count("middle"), explored) == (0, [])
        return
    assert late.count("middle") > 60
    assert explored
    for ranking in explored:
        assert (ranking.models[0], ranking.propensity) == ("middle", 0.1)
        assert ranking.reason.startswith("asked to learn how good it is; ")


@pytest.mark.parametrize(("asleep", "scored"), [(["middle"], True), ([], False)])
def test_nothing_is_explored_that_sleeps_or_where_nobody_scores(
    asleep: list[str], scored: bool
) -> None:
    learned = Learned({"small": [0.0] * 400, "middle": [0.0] * 6, "large": [1.0] * 400})
    learned.decider.explorer = Explorer(1.0, lambda: 0.0)
    wanted = question(hard=True, requirement=0.8, asleep=asleep)
    for _ in range(50):
        if scored:
            learned.correct(decide(learned.decider, wanted), 0.9)
        assert not decide(learned.decider, wanted).explores
