"""Promise: predictions follow past outcomes, and a new predictor is used only if it is better."""

from dataclasses import replace

import numpy as np
import pytest
from past_queries import predict, world

from deployments.store.evidence import Snapshot
from deployments.store.memory.nearest import nearest
from serve.routing.forecast.fitting import BlendPredictor, refit
from serve.routing.forecast.predictor import (
    NeighbourPredictor,
    Smoothing,
    believed,
    default_n_similar,
    price_prior,
)
from serve.routing.optimise.batch import assign
from serve.routing.prices import Price


def test_nearest_agrees_with_sorting_everything() -> None:
    snapshot, _ = world(500)
    ids, similarity = nearest(snapshot.embeddings[:20], snapshot.embeddings, 10)
    cosine = snapshot.embeddings[:20] @ snapshot.embeddings.T
    assert (ids == np.argsort(-cosine, axis=1)[:, :10]).all()
    assert np.allclose(similarity, -np.sort(-cosine, axis=1)[:, :10])
    assert nearest(snapshot.embeddings[:2], snapshot.embeddings[:3], 10)[0].shape == (2, 3)


def test_predictions_follow_the_neighbourhood() -> None:
    snapshot, _ = world(2000)
    new, chance = world(300, seed=1)
    guess = predict(NeighbourPredictor(np.full(4, 0.5)), snapshot, new.embeddings, 64)
    plain = np.broadcast_to(snapshot.means().quality, chance.shape)
    assert ((guess.quality - chance) ** 2).mean() < 0.8 * ((plain - chance) ** 2).mean()
    assert np.allclose(guess.output_tokens, 100)


def test_a_model_without_outcomes_gets_its_prior_for_a_mean_and_never_zero() -> None:
    snapshot, _ = world(300)
    snapshot.quality[:, 3], snapshot.output_tokens[:, 3], snapshot.weight[:, 3] = np.nan, np.nan, 0
    prior = np.array([0.5, 0.6, 0.7, 0.8])
    guess = predict(NeighbourPredictor(prior), snapshot, snapshot.embeddings[:10])
    assert guess.quality[:, 3].mean() > guess.quality[:, 0].mean() + 0.1
    assert guess.quality.min() > 0
    assert guess.output_tokens[0, 3] == pytest.approx(100)
    assert guess.uncertainty[:, 3].mean() > guess.uncertainty[:, 0].mean()


def test_a_model_without_outcomes_among_the_neighbours_gets_its_mean_and_their_hardness() -> None:
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
    others = [0, 1, 3]
    hardness = (guess.quality[0] - mean)[others].mean()
    assert guess.quality[0, 2] - mean[2] == pytest.approx(hardness, rel=0.3)


def test_without_evidence_predictions_are_the_priors() -> None:
    empty = world(0)[0]
    prior = np.array([0.3, 0.5, 0.6, 0.9])
    guess = predict(NeighbourPredictor(prior), empty, np.zeros((2, 16), np.float32))
    assert np.allclose(guess.quality, prior)
    assert (guess.output_tokens > 0).all()


def test_more_answers_to_a_query_weigh_more() -> None:
    snapshot, _ = world(2, models=1)
    snapshot.embeddings[:] = snapshot.embeddings[0]
    snapshot.quality[:, 0], snapshot.weight[:, 0] = [0, 1], [1, 9]
    guess = predict(NeighbourPredictor([0.5]), snapshot, snapshot.embeddings[:1])
    assert guess.quality[0, 0] > 0.75


def test_one_text_scored_again_and_again_moves_no_unrelated_prediction() -> None:
    snapshot, _ = world(200, models=2)
    new = world(40, seed=1, models=2)[0].embeddings
    before = predict(NeighbourPredictor(np.full(2, 0.5)), snapshot, new, 200).quality
    snapshot.quality[0], snapshot.weight[0] = [1, 0], 300
    after = predict(NeighbourPredictor(np.full(2, 0.5)), snapshot, new, 200).quality
    unrelated = new @ snapshot.embeddings[0] < 0.5
    assert unrelated.sum() > 20
    assert np.abs(after - before)[unrelated].max() < 0.02
    itself = predict(
        NeighbourPredictor(np.full(2, 0.5)), snapshot, snapshot.embeddings[:1], 200
    ).quality
    np.testing.assert_allclose(itself[0], [1, 0], atol=0.05)


def test_sparse_outcomes_predict_as_dense_arrays_do() -> None:
    snapshot, _ = world(400, models=7, known=0.3)
    random = np.random.default_rng(3)
    shape = snapshot.quality.shape
    snapshot.output_tokens[:] = np.where(random.random(shape) < 0.5, 50, np.nan)
    snapshot.output_tokens[:] *= random.random(shape)
    # Some answers are only scored, others only counted.
    known = ~(np.isnan(snapshot.quality) & np.isnan(snapshot.output_tokens))
    snapshot.weight[:] = random.integers(1, 5, shape) * known
    new, prior = world(5, seed=1)[0].embeddings, np.linspace(0.3, 0.9, 7)
    guess = predict(NeighbourPredictor(prior), snapshot, new, 60)

    ids, similarity = nearest(new, snapshot.embeddings, 60)
    kernel = np.exp((similarity - 1) / Smoothing().temperature)[..., None]
    answers = snapshot.weight[ids]
    weight = kernel * answers / (1 + (1 - kernel) * np.maximum(answers - 1, 0))
    mean, tokens = believed(snapshot.means(), prior)
    length = snapshot.output_tokens[ids]
    counted = np.where(np.isnan(length), 0, weight).astype(np.float64)
    average = (counted * np.nan_to_num(length)).sum(axis=1) + tokens
    np.testing.assert_allclose(guess.output_tokens, average / (counted.sum(axis=1) + 1), rtol=1e-6)

    known = ~np.isnan(snapshot.quality[ids])
    scored = np.where(known, weight, 0).astype(np.float64)
    deviation = np.where(known, snapshot.quality[ids] - mean, 0)
    share = 1 / (known.sum(axis=2, keepdims=True) + 2)
    for model in range(7):
        rest = np.arange(7) != model
        sums = [(scored * share * part)[..., rest].sum(axis=(1, 2)) for part in (deviation, 1)]
        hardness = sums[0] / (sums[1] + 1)
        others = share[..., 0] * (deviation[..., rest].sum(axis=2) + 3 * hardness[:, None])
        own = (scored[..., model] * (deviation[..., model] - others)).sum(axis=1)
        found = mean[model] + hardness + own / (scored[..., model].sum(axis=1) + 1)
        np.testing.assert_allclose(guess.quality[:, model], found, rtol=1e-6)
    size = scored.sum(axis=1) ** 2 / np.maximum((scored**2).sum(axis=1), 1e-300)
    spread = guess.quality * (1 - guess.quality)
    np.testing.assert_allclose(guess.uncertainty**2, spread / (size + 1), rtol=1e-6)


def test_predictions_follow_the_means_as_they_change() -> None:
    snapshot, _ = world(50)
    predictor = NeighbourPredictor(np.full(4, 0.5))
    predict(predictor, snapshot, snapshot.embeddings[:1])
    worse = replace(snapshot, quality=np.zeros_like(snapshot.quality))
    expected = predict(NeighbourPredictor(np.full(4, 0.5)), worse, snapshot.embeddings[:1])
    assert (predict(predictor, worse, snapshot.embeddings[:1]).quality == expected.quality).all()


def test_more_expensive_models_are_assumed_better_until_known() -> None:
    prior = price_prior([Price(1e-7, 1e-7), Price(1e-6, 1e-6), Price(1e-5, 1e-5)])
    assert (np.diff(prior) > 0).all()
    assert ((prior >= 0.3) & (prior <= 0.9)).all()
    assert price_prior([Price(0, 0), Price(0, 0)])[0] == pytest.approx(0.65)


def test_neighbours_grow_with_the_store() -> None:
    assert default_n_similar(0) == 16
    assert 16 < default_n_similar(1000) < default_n_similar(5000)
    assert default_n_similar(10**6) == 256
    assert Smoothing(breadth=0.5).n_similar(10**6, 16) == 128
    assert Smoothing(breadth=0.5).n_similar(10**6, 200) == 200


def test_networks_that_improve_predictions_are_accepted() -> None:
    snapshot, _ = world(2000)
    new, chance = world(300, seed=1)
    fitted = refit(snapshot, np.full(4, 0.5))
    assert fitted.accepted
    assert fitted.loss < fitted.neighbours_loss
    k = default_n_similar(2000)
    better = predict(fitted.predictor, snapshot, new.embeddings, k).quality
    plain = predict(NeighbourPredictor(np.full(4, 0.5)), snapshot, new.embeddings, k).quality
    assert ((better - chance) ** 2).mean() < ((plain - chance) ** 2).mean()


def test_networks_that_improve_nothing_are_rejected() -> None:
    random = np.random.default_rng(0)
    # Points on a circle with alternating outcomes: too fine a pattern for small networks.
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


def test_few_rows_are_not_fitted_on() -> None:
    fitted = refit(world(50)[0], np.full(4, 0.5))
    assert isinstance(fitted.predictor, NeighbourPredictor)
    assert not fitted.accepted


def test_sparse_outcomes_are_enough_to_fit_on() -> None:
    snapshot, _ = world(3000, known=0.25)
    fitted = refit(snapshot, np.full(4, 0.5))
    assert isinstance(fitted.predictor, BlendPredictor)
    new, chance = world(300, seed=1)
    guess = predict(fitted.predictor, snapshot, new.embeddings, 128)
    assert np.isfinite(guess.quality).all()
    assert ((guess.quality >= 0) & (guess.quality <= 1)).all()
    plain = np.broadcast_to(snapshot.means().quality, chance.shape)
    assert ((guess.quality - chance) ** 2).mean() < ((plain - chance) ** 2).mean()


def test_optimism_makes_the_real_mean_hold_the_requirement() -> None:
    snapshot, _ = world(4000)
    new, chance = world(4000, seed=1)
    fitted = refit(snapshot, np.full(4, 0.5))
    quality = predict(fitted.predictor, snapshot, new.embeddings, 256).quality
    price = np.array([1.0, 2.0, 4.0, 8.0])
    past = price * fitted.backtest.output_tokens
    for requirement in (0.5, 0.6, 0.7):
        aim = requirement + fitted.backtest.optimism(past, requirement, np.arange(4))
        choice = assign(quality, np.tile(price, (4000, 1)), aim).choice
        assert chance[np.arange(4000), choice].mean() == pytest.approx(requirement, abs=0.02)
