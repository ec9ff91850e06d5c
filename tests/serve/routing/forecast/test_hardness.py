"""Promise: a model is compared with the others on the queries it has answered, not with their mean
over other queries."""

import numpy as np
import pytest
from past_queries import predict, world

from deployments.store.evidence import Outcomes, Snapshot
from deployments.store.memory.nearest import nearest
from serve.routing.arrays import Floats
from serve.routing.forecast.hardness import compared, joined
from serve.routing.forecast.predictor import NeighbourPredictor, Smoothing, believed

PRIOR = np.full(4, 0.5)


def quality_of(
    scores: Floats, mean: Floats, shrinkage: float = 1.0, freshness: Floats | None = None
) -> Floats:
    """(m,) predicted from equally near queries with these scores (n, m); NaN where unknown."""
    known = (~np.isnan(scores)).astype(np.float32)
    values = scores.astype(np.float32)
    fresh = None if freshness is None else freshness.astype(np.float32)
    outcomes = Outcomes.of(np.arange(len(scores)), values, values, known, fresh)
    counting = 1.0 if outcomes.freshness is None else outcomes.freshness
    parts = [counting * part for part in compared(outcomes, mean)]
    sums = [np.bincount(outcomes.column, part, len(mean)).astype(np.float64) for part in parts]
    return joined(sums, mean, shrinkage)


def newcomer(past: Snapshot, answered: int, model: int = 3) -> Snapshot:
    """The same past queries, but all outcomes of one model from a number on are unknown."""
    quality, tokens, weight = (
        part.copy() for part in (past.quality, past.output_tokens, past.weight)
    )
    for part, nothing in ((quality, np.nan), (tokens, np.nan), (weight, 0)):
        part[answered:, model] = nothing
    return Snapshot(past.queries, past.embeddings, quality, tokens, weight)


def test_where_every_outcome_is_known_predictions_are_plain_averages() -> None:
    past, new = world(400)[0], world(50, seed=1)[0]
    ids, similarity = nearest(new.embeddings, past.embeddings, 60)
    weight = np.exp((similarity.astype(np.float64) - 1) / Smoothing().temperature)[..., None]
    sums = (weight * past.quality[ids]).sum(axis=1)
    plain = (sums + believed(past.means(), PRIOR)[0]) / (weight.sum(axis=1) + 1)
    guess = predict(NeighbourPredictor(PRIOR), past, new.embeddings, 60)
    np.testing.assert_allclose(guess.quality, plain, rtol=1e-5)


def test_plain_averages_may_be_as_certain_as_the_outcomes() -> None:
    always = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    mean = np.array([0.999, 0.0001, 0.5])
    plain = (always.sum(axis=0) + 30 * mean) / 32
    assert quality_of(always, mean, shrinkage=30.0) == pytest.approx(plain, rel=1e-9)


def test_faded_scores_of_others_move_no_prediction() -> None:
    mean, failed = np.full(8, 0.5), np.zeros((10, 8))
    fresh = np.full((10, 8), 1e-9)
    fresh[:, 7] = 1
    alone = failed.copy()
    alone[:, :7] = np.nan
    faded = quality_of(failed, mean, freshness=fresh)[7]
    assert faded == pytest.approx(quality_of(alone, mean)[7], abs=1e-6)


def test_scores_that_fade_together_stay_plain_averages() -> None:
    random = np.random.default_rng(0)
    scores, mean = random.integers(0, 2, (20, 4)).astype(float), np.full(4, 0.4)
    fresh = np.broadcast_to(random.random((20, 1)), scores.shape)
    plain = ((fresh * scores).sum(axis=0) + mean) / (fresh.sum(axis=0) + 1)
    assert quality_of(scores, mean, freshness=fresh) == pytest.approx(plain, rel=1e-6)


def test_hard_queries_are_hard_for_a_new_model_too() -> None:
    mean = np.array([0.6, 0.5, 0.7])
    failed = np.array([[0.0, 0.0, np.nan]] * 20)
    assert quality_of(failed, mean)[2] < 0.7 - 0.4
    assert quality_of(1 - failed, mean)[2] > 0.7 + 0.25
    assert (quality_of(np.full((20, 3), np.nan), mean) == mean).all()


def test_failing_where_all_fail_is_less_of_a_weakness() -> None:
    mean = np.full(4, 0.5)
    one_failed = np.array([[np.nan, np.nan, np.nan, 0.0]] * 5)
    all_failed = np.zeros((5, 4))
    elsewhere = np.array([[0.0, 0.0, 0.0, np.nan], [1.0, 1.0, 1.0, np.nan]] * 20)
    alone, together = (
        quality_of(np.vstack([some, elsewhere]), mean) for some in (one_failed, all_failed)
    )
    assert together[0] - together[3] < (alone[0] - alone[3]) / 2


def test_a_models_own_outcomes_tell_what_the_others_do_not() -> None:
    mean = np.full(3, 0.5)
    alone_right = np.array([[0.0, 0.0, 1.0]] * 50)
    assert quality_of(alone_right, mean) == pytest.approx([0, 0, 1], abs=0.02)


def test_many_outcomes_of_a_model_count_for_themselves_whatever_the_others_have_answered() -> None:
    mean, nan = np.array([0.5, 0.5, 0.5]), np.nan
    by_one = np.array([[1.0, nan, nan], [nan, 0.0, nan], [nan, nan, 0.0]] * 200)
    assert quality_of(by_one, mean) == pytest.approx([1, 0, 0], abs=0.01)
    of_some = np.array([[1.0, 0.0, 0.0], [nan, 0.0, 0.0]] * 200)
    assert quality_of(of_some, mean) == pytest.approx([1, 0, 0], abs=0.01)


def test_few_scores_of_a_new_model_are_enough_to_know_what_is_hard_for_it() -> None:
    past, _ = world(2000)
    new, truth = world(500, seed=1)
    few = newcomer(past, 50)
    by = NeighbourPredictor(PRIOR)
    guess = predict(by, few, new.embeddings, 256).quality[:, 3]
    plain = np.full(500, few.quality[:50, 3].mean())
    assert ((guess - truth[:, 3]) ** 2).mean() < 0.7 * ((plain - truth[:, 3]) ** 2).mean()


def test_what_others_scored_makes_no_model_certainly_right_or_wrong() -> None:
    mean = np.array([0.95, 0.1, 0.05])
    easy = np.array([[np.nan, 1.0, 1.0]] * 30)
    assert quality_of(easy, mean)[0] == pytest.approx(0.98)
    assert quality_of(1 - easy, 1 - mean)[0] == pytest.approx(0.02)
    known = np.array([[1.0, 1.0, 0.0]] * 1000)
    found = quality_of(known, mean)
    assert found == pytest.approx([1, 1, 0], abs=1e-3)
    assert ((found > 0) & (found < 1)).all()
