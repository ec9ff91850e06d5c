"""Promise: other requirements, sets of models and single models are judged on past requests, and
savings against the model that is surely best."""

import numpy as np
import pytest

from deployments.store.evidence import Snapshot
from serve.routing.arrays import Floats
from serve.routing.prices import Price
from serve.routing.replay import Replay, Requests

PRICES = [Price(1e-7, 4e-7), Price(1e-6, 4e-6), Price(1e-5, 4e-5)]
N, HISTORY = 300, 300
EVERY = [0, 1]  # the third model is never asked


def outcomes() -> tuple[Floats, Floats]:
    """(HISTORY + N, 3) scores and costs: half of the queries are hard for the cheap model."""
    random = np.random.default_rng(0)
    hard = np.arange(HISTORY + N) % 2 == 1
    right = np.column_stack([np.where(hard, 0.3, 0.95), np.full(HISTORY + N, 0.95), hard])
    score = (random.random(right.shape) < right).astype(np.float64)
    rate = np.array([price.output for price in PRICES])
    return score, random.uniform(80, 120, right.shape) * rate + 100 * rate / 4


def replayed(*, scored: bool = True) -> Replay:
    """Hard requests went to the dear model, with some chance for the other."""
    random = np.random.default_rng(1)
    score, cost = outcomes()
    hard = np.arange(N) % 2 == 1
    explored = random.random(N) < 0.1
    chosen = np.where(hard ^ explored, 1, 0)
    propensity = np.where(explored, 0.1, 0.9)
    known = np.zeros((HISTORY + N, 3), np.bool_)
    known[:HISTORY, :2] = random.random((HISTORY, 2)) < 0.5
    known[HISTORY + np.arange(N), chosen] = True
    quality = np.where(known & scored, score, np.nan).astype(np.float32)
    tokens = np.where(known, 100, np.nan).astype(np.float32)
    axis = np.arange(HISTORY + N) % 2
    embeddings = np.column_stack([axis, 1 - axis]).astype(np.float32)
    snapshot = Snapshot([""] * len(axis), embeddings, quality, tokens, known.astype(np.float32))
    at = np.arange(N), chosen
    given = score[HISTORY:][at] if scored else np.full(N, np.nan)
    requests = Requests(HISTORY + np.arange(N), chosen, propensity, given, cost[HISTORY:][at])
    return Replay(snapshot, requests, np.full(len(axis), 100.0), PRICES, [0.5, 0.6, 0.7], 16)


def test_what_was_is_known_exactly() -> None:
    past = replayed()
    score, cost = (values[HISTORY:] for values in outcomes())
    was = past.as_it_was()
    found = past.outcome(was)
    wanted = was.wanted[:N]
    assert found.quality.mean == pytest.approx((wanted * score).sum() / N)
    assert found.cost.mean == pytest.approx((wanted * cost).sum() / N)
    assert found.quality.error == pytest.approx(0, abs=1e-6)
    assert found.cost.error == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("column", EVERY)
def test_one_model_alone_is_judged_by_what_it_did_where_it_was_asked(column: int) -> None:
    past = replayed()
    found = past.outcome(past.always(column))
    score, cost = (values[HISTORY:, column].mean() for values in outcomes())
    low, high = found.quality.interval
    assert low <= score <= high
    assert high - low < 0.25
    low, high = found.cost.interval
    assert low <= cost <= high


def test_a_requirement_costs_less_than_the_best_model_and_holds() -> None:
    past = replayed()
    less, more = (past.outcome(past.requirement(wanted, EVERY)) for wanted in (0.7, 0.9))
    assert past.best == 1
    assert less.cost.mean < more.cost.mean < past.outcome(past.always(1)).cost.mean
    assert less.saving.mean > more.saving.mean > 0.2
    for found, wanted in ((less, 0.7), (more, 0.9)):
        low, high = found.quality.interval
        assert low - 0.02 <= wanted <= high + 0.02


def test_always_the_best_model_saves_nothing_for_certain() -> None:
    past = replayed()
    saving = past.outcome(past.always(past.best)).saving
    assert saving.mean == pytest.approx(0)
    assert saving.error == pytest.approx(0)


def test_only_the_given_models_are_chosen_and_never_one_of_which_nothing_is_known() -> None:
    past = replayed()
    assert past.known.tolist() == EVERY
    assert set(past.requirement(0.9, [0]).wanted.argmax(axis=1)) == {0}
    assert set(past.requirement(1.0, [0, 1, 2]).wanted.argmax(axis=1)) <= {0, 1}


def test_what_cannot_be_told_is_refused() -> None:
    with pytest.raises(ValueError, match="no answer has been scored"):
        replayed(scored=False)
    past = replayed()
    with pytest.raises(ValueError, match="no answer of these models"):
        past.requirement(0.5, [2])
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            past.requirement(wrong, EVERY)
