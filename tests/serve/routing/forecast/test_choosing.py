"""Promise: neighbours are averaged as held-out past queries tell; if they do not, by default."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from past_queries import predict, world

from deployments.store.evidence import Floats32, Neighbours, Outcomes, Snapshot
from deployments.store.memory.nearest import nearest
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.routing.arrays import Floats
from serve.routing.forecast import fitting
from serve.routing.forecast.choosing import BREADTHS, GRID, choose, losses
from serve.routing.forecast.fitting import fit_neighbours, refit
from serve.routing.forecast.forecaster import Forecaster
from serve.routing.forecast.predictor import NeighbourPredictor, Smoothing, believed
from serve.routing.prices import Price

PRIOR = np.full(4, 0.5)


def circle(n: int, seed: int) -> Snapshot:
    """Sixteen places on a circle, at which one and the other of two models is right by turns."""
    random = np.random.default_rng(seed)
    place = random.integers(0, 16, n)
    angle = 2 * np.pi * place / 16
    embeddings = np.column_stack([np.cos(angle), np.sin(angle)]).astype(np.float32)
    right = np.column_stack([place % 2, 1 - place % 2]) == 1
    quality = (random.random((n, 2)) < np.where(right, 0.9, 0.1)).astype(np.float32)
    ones = np.ones_like(quality)
    return Snapshot(["the same words"] * n, embeddings, quality, ones, ones)


def scattered(n: int, seed: int) -> Snapshot:
    """Two topics, of which one and the other of two models knows one; hardly alike in each."""
    random = np.random.default_rng(seed)
    topic = random.integers(0, 2, n)
    embeddings = random.normal(size=(n, 256)).astype(np.float32)
    embeddings[:, 0] += np.where(topic, 6, -6)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    right = np.column_stack([topic, 1 - topic]) == 1
    quality = (random.random((n, 2)) < np.where(right, 0.9, 0.1)).astype(np.float32)
    ones = np.ones_like(quality)
    return Snapshot(["the same words"] * n, embeddings, quality, ones, ones)


def squared_error(smoothing: Smoothing, past: Snapshot, new: Snapshot) -> float:
    prior = np.full(past.quality.shape[1], 0.5)
    k = smoothing.n_similar(len(past), 1)
    guess = predict(NeighbourPredictor(prior, smoothing), past, new.embeddings, k)
    return float(((guess.quality - new.quality) ** 2).mean())


def test_losses_are_those_of_what_would_be_predicted() -> None:
    past, new = world(400, known=0.5)[0], world(20, seed=1)[0]
    truth, means = new.quality.copy(), past.means()
    truth[:10, 1:3] = np.nan
    ids, similarity = nearest(new.embeddings, past.embeddings, 100)
    found = Neighbours(ids, similarity, past.outcomes(ids.ravel()))
    ranks = [25, 50, 100]
    measured = losses(found, believed(means, PRIOR)[0], truth, ranks)
    assert measured.shape == (len(GRID), 20)
    for number, smoothing in enumerate(GRID):
        k = ranks[BREADTHS.index(smoothing.breadth)]
        guess = predict(NeighbourPredictor(PRIOR, smoothing), past, new.embeddings, k)
        error = guess.quality - truth
        apart = error - np.nanmean(error, axis=1, keepdims=True)
        np.testing.assert_allclose(measured[number], np.nansum(apart**2, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    ("truth", "loss"),
    [
        ([0.7, 0.8, 0.9], 0.0),  # all predictions are too low by as much
        ([0.5, 0.8, np.nan], 0.02),
        ([0.9, np.nan, np.nan], 0.16),  # one alone has nothing to differ from
        ([np.nan, np.nan, np.nan], 0.0),
    ],
)
def test_only_errors_that_models_do_not_share_count(truth: Sequence[float], loss: float) -> None:
    nothing = Neighbours(np.zeros((1, 1), int), np.ones((1, 1), np.float32), Outcomes.nothing())
    mean, real = np.array([0.5, 0.6, 0.7]), np.array([truth], np.float32)
    assert losses(nothing, mean, real, [1, 1, 1]) == pytest.approx(loss, abs=1e-6)


def test_the_defaults_are_left_for_a_clear_gain_only() -> None:
    random = np.random.default_rng(0)
    difference = random.normal(size=400)
    difference -= difference.mean()  # its standard error is .05
    loss = np.ones((len(GRID), 400))
    loss[7] += difference - 0.02
    assert choose(loss) == Smoothing()
    loss[7] -= 0.1
    assert choose(loss) == GRID[7]
    assert choose(loss[:, :20]) == Smoothing()
    assert choose(loss[:, :0]) == Smoothing()


def test_a_fine_pattern_is_averaged_finely() -> None:
    past, new = circle(800, seed=0), circle(400, seed=1)
    near, backtest = fit_neighbours(past, np.arange(800), [0.5, 0.5], 1)
    chosen, default = (squared_error(one, past, new) for one in (near.smoothing, Smoothing()))
    assert chosen < 0.8 * default
    assert backtest.loss() == pytest.approx(chosen, abs=0.02)


def test_what_is_hardly_alike_is_averaged_widely() -> None:
    past, new = scattered(600, seed=0), scattered(600, seed=1)
    near, _ = fit_neighbours(past, np.arange(600), [0.5, 0.5], 1)
    assert near.smoothing.temperature > Smoothing().temperature
    assert squared_error(near.smoothing, past, new) < 0.95 * squared_error(Smoothing(), past, new)


def test_no_query_has_a_part_in_the_choice_that_its_backtest_is_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen_by = []

    def numbers(near: Neighbours, *_: object) -> Floats:
        return np.tile(near.ids[:, 0], (len(GRID), 1))  # the nearest to each query is itself

    def spied(loss: Floats) -> Smoothing:
        chosen_by.append(set(loss[0].astype(int)))
        return Smoothing(shrinkage=1e-6 if len(chosen_by) == 1 else 1e6)

    monkeypatch.setattr(fitting, "losses", numbers)
    monkeypatch.setattr(fitting, "choose", spied)
    _, backtest = fit_neighbours(scattered(200, seed=0), np.arange(200), [0.5, 0.5], 1)
    everything = set(range(200))
    assert chosen_by[-1] == everything
    unshrunk = np.ptp(backtest.quality, axis=1) > 0.3
    assert unshrunk.any()
    assert not set(np.flatnonzero(unshrunk)) & chosen_by[0]
    left_out = [everything - some for some in chosen_by[:-1]]
    assert set.union(*left_out) == everything
    assert sum(map(len, left_out)) == len(everything)


def test_decisions_look_at_as_many_neighbours_as_were_chosen() -> None:
    asked = []

    class Counting(SnapshotEvidence):
        def neighbours(self, embeddings: Floats32, k: int) -> Neighbours:
            asked.append(k)
            return super().neighbours(embeddings, k)

    past = world(400)[0]
    forecaster = Forecaster(Counting(past), [Price(1e-6, 1e-6)] * 4, n_similar=20)
    fitted = refit(past, PRIOR)
    for breadth in (1.0, 0.5, 0.01):
        near = NeighbourPredictor(PRIOR, Smoothing(breadth=breadth))
        other = forecaster.updated(fitted=replace(fitted, predictor=near))
        other.predict(["a query"], past.embeddings[:1])
    assert asked == [120, 60, 20]
