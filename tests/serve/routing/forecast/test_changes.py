"""Promise: a model that begins to answer worse, or better, is noticed, and hardly ever another."""

from collections.abc import Iterator

import numpy as np
import pytest

from deployments.store.observations import Scored
from serve.routing.forecast.changes import Change, Changes

PER_MODEL = 2_000  # scores before a change


def traffic(
    scores: int, *, seed: int, drop: float = 0.0, bias: float = 0.0
) -> Iterator[tuple[float, float]]:
    """Predictions and scores of answers to queries of all kinds, three of ten of them failed."""
    random = np.random.default_rng(seed)
    quality, luck = random.beta(3.5, 1.5, scores), random.random(scores)
    predicted, score = np.minimum(quality + bias, 1.0), (luck < quality - drop).astype(float)
    yield from zip(predicted.tolist(), score.tolist(), strict=True)


def noticed(changes: Changes, of: Iterator[tuple[float, float]], model: str = "m") -> list[Change]:
    found = [changes.score(Scored(model, predicted, None, None), score) for predicted, score in of]
    return [change for change in found if change is not None]


def after(scores: int, seed: int, drop: float) -> Change | None:
    """What is noticed of a model that changes after a while, within so many scores."""
    changes = Changes()
    noticed(changes, traffic(PER_MODEL, seed=seed))
    changes.latest.clear()
    found = noticed(changes, traffic(scores, seed=seed + 10_000, drop=drop))
    return found[0] if found else None


@pytest.mark.parametrize("bias", [0.0, 0.07])
def test_100_000_scores_of_models_that_stay_the_same_raise_no_alarm(bias: float) -> None:
    """However biased the predictions are."""
    changes = Changes()
    for model in range(10):
        assert not noticed(changes, traffic(10_000, seed=model, bias=bias), str(model))


@pytest.mark.parametrize(("drop", "most"), [(0.1, 300), (0.2, 150), (-0.15, 300)])
def test_half_of_all_changes_are_noticed_in_time(drop: float, most: int) -> None:
    found = [after(most, seed, drop) for seed in range(40)]
    told = [change for change in found if change is not None]
    assert len(told) >= 20
    assert np.mean([change.difference for change in told]) == pytest.approx(-drop, abs=0.06)


def test_a_model_is_compared_with_what_it_became() -> None:
    changes = Changes(clock=lambda: 7.0)
    noticed(changes, traffic(PER_MODEL, seed=1))
    first, *more = noticed(changes, traffic(5_000, seed=2, drop=0.2))
    assert not more
    assert first.at == 7.0
    assert str(first).startswith("model 'm' answers worse than it did: its last ")
    [second] = noticed(changes, traffic(1_000, seed=3))
    assert second.difference > 0.1
    assert changes.latest == {"m": second}


def test_guesses_and_second_scores_tell_of_nothing() -> None:
    changes = Changes()
    for _ in range(1_000):
        assert changes.score(Scored("m", None, None, None), 0.0) is None
        assert changes.score(Scored("m", 0.9, None, 1.0), 0.0) is None
    assert not changes.latest


def test_scores_between_0_and_1_raise_no_alarm_either() -> None:
    random, changes = np.random.default_rng(0), Changes()
    for score in random.uniform(0.4, 0.9, 50_000).tolist():
        assert changes.score(Scored("m", 0.65, None, None), score) is None
