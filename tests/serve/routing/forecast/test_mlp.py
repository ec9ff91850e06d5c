"""Promise: the networks learn what can be learned, and are judged on rows they have not seen."""

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from past_queries import predict, world

from serve.routing.forecast.features import text_features
from serve.routing.forecast.fitting import BlendPredictor, refit
from serve.routing.forecast.mlp import fit_mlp


@pytest.fixture(autouse=True)
def _numbers_stay_numbers() -> Iterator[None]:
    """A division by zero or an overflow is a bug, even if no result shows it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def brier(quality: npt.ArrayLike, chance: npt.ArrayLike) -> float:
    return float(((np.asarray(quality) - np.asarray(chance)) ** 2).mean())


def test_networks_predict_new_queries_better_than_the_means() -> None:
    snapshot, _ = world(1000)
    new, chance = world(300, seed=1)
    mlp, _ = fit_mlp(snapshot)
    guess = mlp.predict(new.queries, new.embeddings)
    assert guess.shape == (300, 4)
    assert brier(guess, chance) < 0.5 * brier(snapshot.means().quality, chance)


def test_held_out_predictions_do_not_know_the_outcome() -> None:
    snapshot, _ = world(300)
    # Pure chance: only a network that has seen an outcome could predict it.
    coins = np.random.default_rng(0).integers(0, 2, snapshot.quality.shape).astype(np.float32)
    _, held_out = fit_mlp(replace(snapshot, quality=coins))
    assert brier(held_out, coins) > 0.24


def test_a_query_is_predicted_alone_as_in_a_batch() -> None:
    snapshot, _ = world(300)
    mlp, _ = fit_mlp(snapshot)
    many = mlp.predict(snapshot.queries[:20], snapshot.embeddings[:20])
    alone = mlp.predict(snapshot.queries[7:8], snapshot.embeddings[7:8])
    assert np.allclose(alone[0], many[7], atol=1e-5)


def test_the_same_rows_give_the_same_networks() -> None:
    snapshot, _ = world(300)
    first, again = (fit_mlp(snapshot)[0] for _ in range(2))
    assert (
        first.predict(snapshot.queries, snapshot.embeddings)
        == again.predict(snapshot.queries, snapshot.embeddings)
    ).all()


def test_unusual_texts_still_get_valid_qualities() -> None:
    snapshot, _ = world(300)
    mlp, _ = fit_mlp(snapshot)
    strange = ["", "9" * 500, "語" * 30_000, "$" * 20_000, "\ud800"]
    embeddings = np.zeros((len(strange), 16), np.float32)
    guess = mlp.predict(strange, embeddings)
    assert np.isfinite(guess).all()
    assert ((guess >= 0) & (guess <= 1)).all()


def test_rows_without_scores_are_not_fitted_on() -> None:
    scored, _ = world(600)
    more, _ = world(1200, seed=2)
    unscored = replace(more, quality=np.full_like(more.quality, np.nan))
    both = replace(
        scored,
        queries=[*scored.queries, *unscored.queries],
        **{
            name: np.concatenate([getattr(scored, name), getattr(unscored, name)])
            for name in ("embeddings", "quality", "output_tokens", "weight")
        },
    )
    fitted = refit(both, np.full(4, 0.5))
    assert isinstance(fitted.predictor, BlendPredictor)
    assert len(fitted.characters) == 600
    assert not np.isnan(fitted.backtest.truth).any()
    new, chance = world(300, seed=1)
    guess = predict(fitted.predictor, both, new.embeddings, 256).quality
    assert brier(guess, chance) < brier(scored.means().quality, chance)


def test_a_model_with_few_outcomes_is_predicted_by_neighbours() -> None:
    snapshot, _ = world(1000)
    few = np.arange(1000) >= 3
    for array in (snapshot.quality, snapshot.output_tokens):
        array[few, 2] = np.nan
    snapshot.weight[few, 2] = 0
    prior = np.full(4, 0.5)
    predictor = refit(snapshot, prior).predictor
    assert isinstance(predictor, BlendPredictor)
    new, _ = world(100, seed=1)
    blend = predict(predictor, snapshot, new.embeddings, 128).quality
    near = predict(predictor.neighbours, snapshot, new.embeddings, 128).quality
    assert np.abs(blend - near)[:, 2].max() < 0.05 < np.abs(blend - near)[:, 0].max()


def test_a_model_without_scores_is_predicted_by_neighbours_alone() -> None:
    snapshot, _ = world(500)
    snapshot.quality[:, 3] = np.nan
    prior = np.full(4, 0.5)
    predictor = refit(snapshot, prior).predictor
    assert isinstance(predictor, BlendPredictor)
    blend = predict(predictor, snapshot, snapshot.embeddings[:20], 128).quality
    near = predict(predictor.neighbours, snapshot, snapshot.embeddings[:20], 128).quality
    assert np.allclose(blend[:, 3], near[:, 3])


@pytest.mark.parametrize("models", [1, 2])
def test_one_or_two_models_are_enough(models: int) -> None:
    snapshot, _ = world(400, models=models)
    fitted = refit(snapshot, np.full(models, 0.5))
    assert fitted.backtest.quality.shape == (400, models)
    assert np.isfinite(fitted.backtest.quality).all()
    new, chance = world(200, seed=1, models=models)
    guess = predict(fitted.predictor, snapshot, new.embeddings, 64).quality
    assert brier(guess, chance) < brier(snapshot.means().quality, chance)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_identical_outcomes_break_nothing(outcome: float) -> None:
    snapshot, _ = world(300, models=2)
    snapshot.quality[:] = outcome
    fitted = refit(snapshot, np.full(2, 0.5))
    guess = predict(fitted.predictor, snapshot, snapshot.embeddings[:10])
    assert np.abs(guess.quality - outcome).max() < 0.1


def test_without_any_scores_predictions_are_the_priors() -> None:
    snapshot, _ = world(400)
    snapshot.quality[:] = np.nan
    prior = np.array([0.3, 0.5, 0.6, 0.9])
    fitted = refit(snapshot, prior)
    assert not fitted.accepted
    assert fitted.backtest.output_tokens.shape == (400, 4)
    guess = predict(fitted.predictor, snapshot, snapshot.embeddings[:5])
    assert np.allclose(guess.quality, prior)
    assert np.allclose(guess.output_tokens, 100)


def test_a_large_snapshot_is_sampled_and_its_scores_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serve.routing.forecast.fitting._MOST_ROWS", 500)
    snapshot, _ = world(2000)
    snapshot.quality[np.arange(2000) % 5 != 0] = np.nan
    fitted = refit(snapshot, np.full(4, 0.5))
    assert len(fitted.characters) == 400


def test_features_count_what_they_claim() -> None:
    # Lengths in characters and words, numbers, the largest, the longest word, then marks.
    features = text_features(["Is 3.5 + 40 = 43.5?\nYES, né", ""])
    counts = np.expm1(features[0, :15])
    assert counts[:5] == pytest.approx([27, 8, 3, 43.5, 5])
    marks = dict(zip("\n?\\$=({[.,", counts[5:], strict=True))
    assert marks == pytest.approx(
        {"\n": 1, "?": 1, "\\": 0, "$": 0, "=": 1, "(": 0, "{": 0, "[": 0, ".": 2, ",": 1}
    )
    assert features[0, 15:19] * 27 == pytest.approx([7, 4, 6, 1])
    assert (features[1] == 0).all()
