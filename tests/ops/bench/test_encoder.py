"""Promise: a try learns from train rows alone and is compared with smart routing as it is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deployments.embedding.encoder import Encoder
from deployments.store.memory.snapshots import SnapshotEvidence
from ops.bench.encoder.__main__ import row
from ops.bench.encoder.bounds import category_means, efficient, informed, of_models
from ops.bench.encoder.comparing import Predicted, compared, routed
from ops.bench.encoder.linear import Kernel, linear_map
from ops.bench.encoder.served import hidden_states
from ops.bench.encoder.tries import TRIES, as_it_is, deviations, networks, of_served_model, unit
from ops.bench.encoder.tuning import Upper, lower_states, tuned
from ops.bench.routing.data import Data, five_folds
from serve.routing.forecast.fitting import refit
from serve.routing.forecast.predictor import price_prior
from serve.routing.prices import Price

ROWS, MODELS = 300, 4
SERVED = "a served model's states beside it"


@pytest.fixture(scope="module")
def data() -> Data:
    """Outcomes that depend on one direction of the embedding, for half of the models in reverse."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(ROWS, 16))
    skill = np.outer(vectors[:, 0], [2, 2, -2, -2]) + np.array([0, 1, 0, 1])
    score = (random.random((ROWS, MODELS)) < 1 / (1 + np.exp(-skill))).astype(np.float64)
    prices = [Price(price, price) for price in (1e-7, 1e-6, 1e-7, 1e-6)]
    return Data(
        name="synthetic",
        ids=[str(number) for number in range(ROWS)],
        train=np.ones(ROWS, np.bool_),
        queries=[f"question {number}" for number in range(ROWS)],
        embeddings=unit(vectors),
        input_tokens=np.full(ROWS, 100.0),
        score=score,
        output_tokens=np.full((ROWS, MODELS), 100.0),
        cost=np.tile([price.input * 200 for price in prices], (ROWS, 1)),
        prices=prices,
        answers=np.zeros((ROWS, 0), np.int64),
    )


@pytest.mark.parametrize("name", [*TRIES, SERVED])
def test_nothing_is_learned_from_test_rows(name: str, data: Data) -> None:
    tries = TRIES | (of_served_model(data) if name == SERVED else {})
    train, test = five_folds(data)[0]
    score = data.score.copy()
    score[test] = 1 - score[test]
    found = []
    for one in (data, replace(data, score=score)):
        learned = tries[name](one, train, networks(one, train))
        found.append(learned)
        assert np.linalg.norm(learned.embeddings, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.array_equal(found[0].embeddings, found[1].embeddings)
    assert np.array_equal(found[0].quality, found[1].quality)
    assert np.array_equal(found[0].held, found[1].held)


def test_what_all_are_compared_with_is_smart_routing_itself(data: Data) -> None:
    splits = five_folds(data)[:1]
    train, test = splits[0]
    ours = routed(data, splits, [as_it_is(data, train, networks(data, train))])
    snapshot = data.snapshot(train)
    predictor = refit(snapshot, price_prior(data.prices)).predictor
    evidence, k = SnapshotEvidence(snapshot), predictor.smoothing.n_similar(len(train), 1)
    found = evidence.neighbours(data.embeddings[test], k)
    texts = [data.queries[number] for number in test]
    guess = predictor.predict(texts, data.embeddings[test], found, evidence.means())
    assert ours.quality[test] == pytest.approx(guess.quality)
    assert ours.cost[test] == pytest.approx(data.predicted_cost(test, guess.output_tokens))


def test_a_linear_map_stretches_the_direction_that_matters(data: Data) -> None:
    truth, held = deviations(data.score, np.arange(ROWS)), np.arange(0, ROWS, 5)
    matrix = linear_map(data.embeddings, truth, held, 16)
    assert (matrix**2).sum(axis=1).argmax() == 0
    assert linear_map(data.embeddings, truth, held, 3).shape == (16, 3)


def test_a_row_is_no_neighbour_of_itself() -> None:
    place = torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
    values = torch.tensor([[1.0], [0], [0], [0], [0]])
    guess = Kernel()(place[:1], place, values, torch.tensor([0]))
    assert guess.item() == 0


def test_deviations_are_free_of_how_hard_a_query_and_how_good_a_model_is(data: Data) -> None:
    train = np.arange(100)
    apart = deviations(data.score, train)
    assert apart.mean(axis=1) == pytest.approx(0)
    assert apart[train].mean(axis=0) == pytest.approx(0)
    harder = deviations(data.score - np.linspace(0, 1, ROWS)[:, None], train)
    assert harder == pytest.approx(apart)


def test_equal_predictions_do_not_differ_and_perfect_ones_route_better(data: Data) -> None:
    plain = Predicted(np.tile(data.score.mean(axis=0), (ROWS, 1)), data.cost)
    same = compared(data, plain, plain)
    assert same["aiq_change"] == same["aiq_change_error"] == 0
    perfect = compared(data, Predicted(data.score, data.cost), plain)
    assert perfect["aiq_change"] > 5 * perfect["aiq_change_error"] > 0
    assert perfect["error"] == perfect["difference_error"] == 0
    assert row("perfect", perfect).startswith(f"| perfect | {perfect['aiq']:.4f} | +")


def test_an_error_that_all_models_share_is_none_of_the_differences(data: Data) -> None:
    shifted = Predicted(data.score + 0.1, data.cost)
    found = compared(data, shifted, shifted)
    assert found["error"] == pytest.approx(0.01)
    assert found["difference_error"] == pytest.approx(0)


def test_a_category_is_known_by_its_means_on_other_folds(data: Data) -> None:
    category = (data.embeddings[:, 0] > 0).astype(np.int64)
    quality = category_means(data, category)
    assert (quality[category == 1, 0] > quality[category == 0, 0].max()).all()
    _, test = five_folds(data)[0]
    score = data.score.copy()
    score[test] = 0
    assert np.array_equal(category_means(replace(data, score=score), category)[test], quality[test])


def test_the_informed_know_the_other_models_scores_and_not_the_candidates_own(data: Data) -> None:
    models = np.array([1, 3])
    usual = np.tile(data.score.mean(axis=0), (ROWS, 1))
    score = data.score.copy()
    score[:, [0, 2]] = score[:, models]
    knowing = informed(replace(data, score=score), Predicted(usual, data.cost), models)
    assert np.array_equal(knowing > 0.5, score[:, models] == 1)
    _, test = five_folds(data)[0]
    own = data.score.copy()
    own[np.ix_(test, models)] = 1 - own[np.ix_(test, models)]
    smart = Predicted(usual, data.cost)
    first, again = (informed(replace(data, score=one), smart, models) for one in (data.score, own))
    assert np.array_equal(first[test], again[test])


def test_only_models_that_none_beats_are_efficient(data: Data) -> None:
    score = np.zeros((ROWS, MODELS))
    score[:100, 0] = score[:200, 1] = score[:50, 2] = score[:150, 3] = 1
    found = efficient(replace(data, score=score))
    assert found.tolist() == [0, 1]
    part, few = of_models(data, Predicted(data.score, data.cost), found)
    assert part.score.shape == few.quality.shape == (ROWS, 2)


def test_training_begins_with_the_encoder_itself_and_moves_only_upper_layers() -> None:
    texts = [f"How much is {number} plus {number}?{' Why?' * number}" for number in range(40)]
    served, states = Encoder()(texts), lower_states(texts)
    assert all(len(state) > 5 for state in states)
    first = Upper(torch.zeros(384), torch.full((2,), 0.5))
    embeddings, quality = first.predict(states)
    assert (embeddings * served).sum(axis=1).min() > 0.97  # those served are of 8 bits
    assert quality == pytest.approx(0.5)
    score = np.repeat([[0.0, 1.0], [1.0, 0.0]], 20, axis=0)
    apart = deviations(score, np.arange(40))
    upper = tuned(states, served, score, apart, np.arange(0, 40, 5))
    moved, guess = upper.predict(states)
    assert np.linalg.norm(moved, axis=1) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(moved, embeddings, atol=1e-3)
    assert guess.shape == (40, 2)


def test_a_served_models_states_are_alike_for_texts_that_are_alike() -> None:
    sums = [f"What is {number} plus 4?" for number in range(10, 14)]
    states = hidden_states([*sums, "Zebra " * 1000])
    assert states.shape == (5, 128)
    apart = np.linalg.norm(states - states[0], axis=1)
    assert apart[1:4].max() < apart[4] / 3
