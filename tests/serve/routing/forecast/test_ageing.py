"""Promise: old scores count less, until predictions are the priors again; lengths don't age."""

from dataclasses import replace

import numpy as np
import pytest
from past_queries import predict, world

from deployments.store.evidence import Neighbours, Outcomes, Snapshot
from serve.routing.arrays import Floats
from serve.routing.forecast.fitting import Backtest, Refit, optimism, refit
from serve.routing.forecast.mlp import fit_mlp
from serve.routing.forecast.predictor import NeighbourPredictor

VECTOR = np.eye(1, 16, dtype=np.float32)
PRIOR = np.array([0.3, 0.5, 0.6, 0.9])


def aged(snapshot: Snapshot, freshness: float | Floats) -> Snapshot:
    """A snapshot whose scores count this much."""
    shape = snapshot.quality.shape
    return replace(snapshot, freshness=np.broadcast_to(np.float32(freshness), shape).copy())


def same(first: Refit, second: Refit) -> bool:
    guesses = [
        predict(fit.predictor, world(300)[0], world(30, seed=1)[0].embeddings)
        for fit in (first, second)
    ]
    return (
        np.array_equal(guesses[0].quality, guesses[1].quality)
        and np.array_equal(guesses[0].uncertainty, guesses[1].uncertainty)
        and np.array_equal(first.backtest.quality, second.backtest.quality)
        and (first.loss, first.neighbours_loss) == (second.loss, second.neighbours_loss)
    )


def test_scores_that_have_not_aged_predict_exactly_as_without_ageing() -> None:
    snapshot, new = world(300, known=0.7)[0], world(30, seed=1)[0].embeddings
    plain, fresh = (
        predict(NeighbourPredictor(PRIOR), of, new) for of in (snapshot, aged(snapshot, 1))
    )
    for name in ("quality", "output_tokens", "uncertainty"):
        assert np.array_equal(getattr(plain, name), getattr(fresh, name))
    fits = [refit(of, PRIOR) for of in (snapshot, aged(snapshot, 1))]
    assert same(*fits)
    assert fits[0].accepted


def test_a_score_one_half_life_old_counts_as_half_a_new_one() -> None:
    snapshot = world(3, models=1)[0]
    snapshot.embeddings[:] = snapshot.embeddings[0]
    snapshot.quality[:, 0] = [1, 0, 0]
    halves = predict(
        NeighbourPredictor([0.5]), aged(snapshot, np.array([[1], [0.5], [0.5]])), VECTOR
    )
    whole = predict(NeighbourPredictor([0.5]), snapshot.part(np.array([0, 1])), VECTOR)
    assert halves.quality == pytest.approx(whole.quality)
    assert halves.uncertainty == pytest.approx(whole.uncertainty)


def test_a_query_that_is_asked_often_ages_as_one_asked_once_does() -> None:
    snapshot = aged(world(1, models=1)[0], 0.5)
    snapshot.quality[0, 0], snapshot.weight[0, 0] = 1.0, 9
    near = Neighbours(
        np.zeros((1, 1), np.int64), np.ones((1, 1), np.float32), snapshot.outcomes(np.zeros(1, int))
    )
    nothing = world(0, models=1)[0].means()
    guess = NeighbourPredictor([0.4]).predict([], snapshot.embeddings, near, nothing)
    assert guess.quality[0, 0] == pytest.approx((9 * 0.5 * 1.0 + 0.4) / (9 * 0.5 + 1))


@pytest.mark.parametrize("freshness", [0.0, 1e-42, 1e-30])
def test_where_all_has_faded_predictions_are_the_priors(freshness: float) -> None:
    snapshot, new = world(300)[0], world(30, seed=1)[0].embeddings
    empty = predict(NeighbourPredictor(PRIOR), world(0)[0], new)
    faded = predict(NeighbourPredictor(PRIOR), aged(snapshot, freshness), new)
    assert faded.quality == pytest.approx(empty.quality)
    assert faded.uncertainty == pytest.approx(empty.uncertainty)


def test_a_fading_history_leads_to_the_prior_smoothly() -> None:
    snapshot, new = world(300)[0], world(30, seed=1)[0].embeddings
    steps = [
        predict(NeighbourPredictor(PRIOR), aged(snapshot, 2 ** (-age / 2)), new)
        for age in range(320)
    ]
    for name in ("quality", "uncertainty"):
        values = np.array([getattr(step, name) for step in steps])
        assert np.isfinite(values).all()
        assert np.abs(np.diff(values, axis=0)).max() < 0.1
    means = np.array([step.uncertainty.mean() for step in steps])
    assert (np.diff(means) > -1e-3).all()


def test_one_very_old_score_is_no_more_than_the_prior() -> None:
    snapshot = aged(world(1)[0], 0.0)
    guess = predict(NeighbourPredictor(PRIOR), snapshot, snapshot.embeddings)
    assert guess.quality[0] == pytest.approx(PRIOR)
    fitted = refit(snapshot, PRIOR)
    assert fitted.backtest.loss() == np.inf
    assert not fitted.accepted


def test_lengths_do_not_age() -> None:
    snapshot, new = world(300)[0], world(30, seed=1)[0].embeddings
    snapshot.output_tokens[:] = np.random.default_rng(0).integers(1, 500, (300, 4))
    plain, faded = (
        predict(NeighbourPredictor(PRIOR), of, new) for of in (snapshot, aged(snapshot, 1e-3))
    )
    assert np.array_equal(plain.output_tokens, faded.output_tokens)
    assert np.array_equal(snapshot.means().output_tokens, aged(snapshot, 0).means().output_tokens)


def test_a_model_that_has_become_worse_is_predicted_as_it_is_now() -> None:
    old, new = world(300, models=2)[0], world(60, models=2, seed=1)[0]
    new.quality[:, 1] = 0
    both = Snapshot(
        [*old.queries, *new.queries],
        *(
            np.vstack([getattr(old, name), getattr(new, name)])
            for name in ("embeddings", "quality", "output_tokens", "weight")
        ),
    )
    freshness = np.where(np.arange(360) < 300, 0.02, 1.0)[:, None]
    asked = world(100, models=2, seed=2)[0].embeddings
    plain, ageing = (
        predict(NeighbourPredictor([0.5, 0.5]), of, asked, 100).quality.mean(axis=0)
        for of in (both, aged(both, freshness))
    )
    assert plain[1] > 0.4
    assert ageing[1] < 0.2


def test_the_networks_learn_little_from_old_scores() -> None:
    snapshot, chance = world(1200, models=2)
    stale = np.arange(1200) % 2 == 0
    snapshot.quality[stale] = 1 - snapshot.quality[stale]
    fresh = aged(snapshot, np.where(stale, 0.01, 1.0)[:, None])
    losses = [
        ((fit_mlp(of)[0].predict(of.queries, of.embeddings) - chance) ** 2).mean()
        for of in (snapshot, fresh)
    ]
    assert losses[1] < 0.5 * losses[0]


def test_a_fit_on_faded_scores_is_finite_and_by_neighbours_alone() -> None:
    faded = aged(world(400)[0], np.linspace(0, 1e-20, 400)[:, None])
    fitted = refit(faded, PRIOR)
    assert not fitted.accepted
    assert np.isfinite(fitted.backtest.quality).all()
    guess = predict(fitted.predictor, faded, world(30, seed=1)[0].embeddings)
    assert np.isfinite(guess.quality).all()


def test_a_backtest_is_judged_by_what_still_counts() -> None:
    quality, truth = np.full((2, 1), 0.5), np.array([[0.5], [1.0]])
    tested = Backtest(quality, quality, truth, np.array([[1.0], [0.25]], np.float32))
    assert tested.loss() == pytest.approx(0.25**2 * 0.25 / 1.25 * 4)
    known = optimism(np.full((100, 1), 0.8), np.ones((100, 1)), np.full((100, 1), 0.3), 0.5)
    assert known == pytest.approx(0.5 * 100 / 150, abs=2e-3)
    old = np.full((100, 1), 0.5, np.float32)
    aged = optimism(np.full((100, 1), 0.8), np.ones((100, 1)), np.full((100, 1), 0.3), 0.5, old)
    assert aged == pytest.approx(0.5 * 50 / 100, abs=2e-3)


def test_outcomes_say_how_fresh_they_are() -> None:
    snapshot = aged(world(5, known=0.5)[0], np.linspace(0.1, 0.5, 5)[:, None])
    known = snapshot.outcomes(np.array([4, 0]))
    assert known.freshness is not None
    assert known.freshness == pytest.approx(np.where(known.row == 0, 0.5, 0.1))
    assert Outcomes.nothing().freshness is None
