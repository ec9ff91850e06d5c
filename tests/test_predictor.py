"""Predictions follow what was seen, are shrunk to what is known, and swapped in if better."""

import numpy as np
import pytest

from deployments.store.evidence import Snapshot
from deployments.store.nearest import nearest
from serve.routing.learned import BlendPredictor, refit
from serve.routing.memory import MemoryEvidence
from serve.routing.predictor import NeighbourPredictor, believed, default_n_similar, price_prior
from serve.routing.prices import Price
from serve.routing.ridge import fit_ridge


def world(n, models=4, seed=0, known=1.0, dimensions=16):
    """Queries on a sphere; one direction is difficulty, and dearer models mind it less."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(n, dimensions)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    skill = np.linspace(-0.5, 1.5, models)
    chance = 1 / (1 + np.exp(-(skill + 6 * embeddings[:, :1])))
    quality = (random.random((n, models)) < chance).astype(np.float32)
    quality[random.random((n, models)) >= known] = np.nan
    tokens = np.full((n, models), 100, np.float32)
    tokens[np.isnan(quality)] = np.nan
    weight = (~np.isnan(quality)).astype(np.float32)
    queries = [f"question {number}" for number in range(n)]
    return Snapshot(queries, embeddings, quality, tokens, weight), chance


def predict(predictor, snapshot, embeddings, k=32):
    evidence = MemoryEvidence(snapshot)
    found = evidence.neighbours(embeddings, k)
    queries = ["question 1"] * len(embeddings)
    return predictor.predict(queries, embeddings, found, evidence.means())


def test_nearest_is_what_sorting_all_gives():
    snapshot, _ = world(500)
    ids, similarity = nearest(snapshot.embeddings[:20], snapshot.embeddings, 10)
    cosine = snapshot.embeddings[:20] @ snapshot.embeddings.T
    assert (ids == np.argsort(-cosine, axis=1)[:, :10]).all()
    assert np.allclose(similarity, -np.sort(-cosine, axis=1)[:, :10])
    assert nearest(snapshot.embeddings[:2], snapshot.embeddings[:3], 10)[0].shape == (2, 3)


def test_predictions_follow_the_neighbourhood():
    snapshot, _ = world(2000)
    new, chance = world(300, seed=1)
    guess = predict(NeighbourPredictor(np.full(4, 0.5)), snapshot, new.embeddings, 64)
    plain = np.broadcast_to(snapshot.means().quality, chance.shape)
    assert ((guess.quality - chance) ** 2).mean() < 0.8 * ((plain - chance) ** 2).mean()
    assert np.allclose(guess.output_tokens, 100)


def test_a_model_nobody_has_seen_gets_its_prior_never_zero():
    snapshot, _ = world(300)
    snapshot.quality[:, 3], snapshot.output_tokens[:, 3], snapshot.weight[:, 3] = np.nan, np.nan, 0
    prior = np.array([0.5, 0.6, 0.7, 0.8])
    guess = predict(NeighbourPredictor(prior), snapshot, snapshot.embeddings[:10])
    assert np.ptp(guess.quality[:, 3]) == pytest.approx(0)
    assert guess.quality[0, 3] > guess.quality[:, 0].mean()
    assert guess.output_tokens[0, 3] == pytest.approx(100)
    assert (guess.uncertainty[:, 3] > guess.uncertainty[:, 0]).all()


def test_a_model_the_neighbours_have_not_seen_gets_its_mean():
    snapshot, _ = world(200)
    near = (
        snapshot.embeddings[0] @ snapshot.embeddings.T
        > np.sort(snapshot.embeddings[0] @ snapshot.embeddings.T)[-33]
    )
    for array in (snapshot.quality, snapshot.output_tokens):
        array[near, 2] = np.nan
    snapshot.weight[near, 2] = 0
    prior = np.full(4, 0.5)
    guess = predict(NeighbourPredictor(prior), snapshot, snapshot.embeddings[:1])
    mean, _ = believed(snapshot.means(), prior)
    assert guess.quality[0, 2] == pytest.approx(mean[2])


def test_nothing_known_at_all_gives_the_priors():
    empty = world(0)[0]
    prior = np.array([0.3, 0.5, 0.6, 0.9])
    guess = predict(NeighbourPredictor(prior), empty, np.zeros((2, 16), np.float32))
    assert np.allclose(guess.quality, prior)
    assert (guess.output_tokens > 0).all()


def test_more_answers_to_a_query_weigh_more():
    snapshot, _ = world(2, models=1)
    snapshot.embeddings[:] = snapshot.embeddings[0]
    snapshot.quality[:, 0], snapshot.weight[:, 0] = [0, 1], [1, 9]
    guess = predict(NeighbourPredictor([0.5]), snapshot, snapshot.embeddings[:1])
    assert guess.quality[0, 0] > 0.75


def test_dearer_models_are_held_for_better_until_known():
    prior = price_prior([Price(1e-7, 1e-7), Price(1e-6, 1e-6), Price(1e-5, 1e-5)])
    assert (np.diff(prior) > 0).all()
    assert ((prior >= 0.3) & (prior <= 0.9)).all()
    assert price_prior([Price(0, 0), Price(0, 0)])[0] == pytest.approx(0.65)


def test_neighbours_grow_with_the_store():
    assert default_n_similar(0) == 16
    assert 16 < default_n_similar(1000) < default_n_similar(5000)
    assert default_n_similar(10**6) == 512


def test_the_left_out_predictions_are_those_of_a_fit_without_the_row():
    snapshot, _ = world(200, dimensions=64)
    ridge, left_out = fit_ridge(snapshot)
    alone, inside = [], ridge.predict(snapshot.queries, snapshot.embeddings)[100:110]
    for row in range(100, 110):
        again, _ = fit_ridge(snapshot.part(np.delete(np.arange(200), row)))
        alone += [again.predict(snapshot.queries[row : row + 1], snapshot.embeddings[[row]])[0]]
    away, near = np.abs(inside - alone).mean(), np.abs(left_out[100:110] - alone).mean()
    assert near < 0.3 * away


def test_a_regression_that_pays_is_taken_and_predicts_better():
    snapshot, _ = world(2000)
    new, chance = world(300, seed=1)
    fitted = refit(snapshot, np.full(4, 0.5))
    assert fitted.accepted
    assert fitted.loss < fitted.neighbours_loss
    k = default_n_similar(2000)
    better = predict(fitted.predictor, snapshot, new.embeddings, k).quality
    plain = predict(NeighbourPredictor(np.full(4, 0.5)), snapshot, new.embeddings, k).quality
    assert ((better - chance) ** 2).mean() < ((plain - chance) ** 2).mean()


def test_a_regression_that_does_not_pay_is_refused():
    random = np.random.default_rng(0)
    # Ten points on a circle, each with outcomes of its own: no line through it tells them apart.
    place = random.integers(0, 16, 600)
    angle = 2 * np.pi * place / 16
    embeddings = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    quality = np.column_stack([place % 2, 1 - place % 2]).astype(np.float32)
    ones = np.ones_like(quality)
    snapshot = Snapshot(["same words"] * 600, embeddings, quality, ones, ones)
    fitted = refit(snapshot, np.full(2, 0.5), 16)
    assert not fitted.accepted
    assert fitted.loss >= fitted.neighbours_loss
    assert isinstance(fitted.predictor, NeighbourPredictor)


def test_few_rows_are_left_to_neighbours():
    fitted = refit(world(50)[0], np.full(4, 0.5))
    assert isinstance(fitted.predictor, NeighbourPredictor)
    assert not fitted.accepted


def test_sparse_outcomes_are_enough_to_fit_on():
    snapshot, _ = world(3000, known=0.25)
    fitted = refit(snapshot, np.full(4, 0.5))
    assert isinstance(fitted.predictor, BlendPredictor)
    new, chance = world(300, seed=1)
    guess = predict(fitted.predictor, snapshot, new.embeddings, 128)
    assert np.isfinite(guess.quality).all()
    assert ((guess.quality >= 0) & (guess.quality <= 1)).all()
    plain = np.broadcast_to(snapshot.means().quality, chance.shape)
    assert ((guess.quality - chance) ** 2).mean() < ((plain - chance) ** 2).mean()


@pytest.mark.parametrize("requirement", [0.5, 0.6, 0.7])
def test_optimism_makes_the_real_mean_hold_the_requirement(requirement):
    from serve.routing.dual import assign

    snapshot, _ = world(4000)
    new, chance = world(4000, seed=1)
    fitted = refit(snapshot, np.full(4, 0.5))
    price = np.array([1.0, 2.0, 4.0, 8.0])
    optimism = fitted.backtest.optimism(
        price * fitted.backtest.output_tokens, requirement, np.arange(4)
    )
    quality = predict(fitted.predictor, snapshot, new.embeddings, 256).quality
    choice = assign(quality, np.tile(price, (4000, 1)), requirement + optimism).choice
    assert chance[np.arange(4000), choice].mean() == pytest.approx(requirement, abs=0.02)
