"""Promise: a predictor that was read from a file predicts as the one that was written."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from past_queries import predict, world

from serve.routing.forecast.fits import read_fit, write_fit
from serve.routing.forecast.fitting import Backtest, Refit, refit
from serve.routing.forecast.predictor import NeighbourPredictor, Smoothing

PRIOR = np.array([0.3, 0.5, 0.6, 0.9])


@pytest.mark.parametrize("ages", [False, True])
@pytest.mark.parametrize(("rows", "accepted"), [(600, True), (30, False)])
def test_a_predictor_predicts_as_before(
    rows: int, accepted: bool, ages: bool, tmp_path: Path
) -> None:
    snapshot, _ = world(rows)
    if ages:
        snapshot = replace(snapshot, freshness=np.full((rows, 4), 0.9, np.float32))
    fitted = refit(snapshot, PRIOR)
    write_fit(tmp_path / "fit.npz", fitted)
    found = read_fit(tmp_path / "fit.npz", PRIOR)
    assert fitted.accepted == found.accepted == accepted
    assert (found.loss, found.neighbours_loss) == (fitted.loss, fitted.neighbours_loss)
    assert np.array_equal(found.characters, fitted.characters)
    assert (found.backtest.freshness is not None) == ages
    for field in fields(Backtest):
        before, after = (getattr(fit.backtest, field.name) for fit in (fitted, found))
        assert before is after is None or np.array_equal(before, after, equal_nan=True)
    new, _ = world(50, seed=1)
    guesses = [predict(fit.predictor, snapshot, new.embeddings) for fit in (fitted, found)]
    assert np.array_equal(guesses[0].quality, guesses[1].quality)
    assert np.array_equal(guesses[0].uncertainty, guesses[1].uncertainty)


def test_a_predictor_takes_the_priors_of_those_who_read_it(tmp_path: Path) -> None:
    snapshot, _ = world(0)
    write_fit(tmp_path / "fit.npz", refit(snapshot, PRIOR))
    found = read_fit(tmp_path / "fit.npz", PRIOR[::-1])
    guess = predict(found.predictor, snapshot, np.zeros((1, 16), np.float32))
    assert guess.quality[0] == pytest.approx(PRIOR[::-1])


def test_a_fit_keeps_how_neighbours_are_averaged(tmp_path: Path) -> None:
    fitted = refit(world(30)[0], PRIOR)
    chosen = NeighbourPredictor(PRIOR, Smoothing(0.06, 3.0, 0.5))
    write_fit(tmp_path / "fit.npz", replace(fitted, predictor=chosen))
    assert read_fit(tmp_path / "fit.npz", PRIOR).predictor.smoothing == chosen.smoothing


def test_a_fit_of_an_earlier_version_averages_by_default(tmp_path: Path) -> None:
    write_fit(tmp_path / "fit.npz", refit(world(30)[0], PRIOR))
    with np.load(tmp_path / "fit.npz") as found:
        arrays = {name: found[name] for name in found if name != "smoothing"}
    np.savez(tmp_path / "fit.npz", **arrays)
    assert read_fit(tmp_path / "fit.npz", PRIOR).predictor.smoothing == Smoothing()


def test_there_is_no_predictor_where_none_was_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        read_fit(tmp_path / "nothing.npz", PRIOR)


def test_a_predictor_appears_only_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, there = tmp_path / "fit.npz", []
    save = np.savez

    def cut(written: object, **arrays: object) -> None:
        save(written, **arrays)  # type: ignore[arg-type]
        there.append(file.exists())
        raise OSError("the disk is full")

    monkeypatch.setattr(np, "savez", cut)
    fitted: Refit = refit(world(0)[0], PRIOR)
    with pytest.raises(OSError, match="full"):
        write_fit(file, fitted)
    assert there == [False]
    assert not file.exists()
    monkeypatch.undo()
    write_fit(file, fitted)  # the part that was left is no hindrance
    assert [path.name for path in tmp_path.iterdir()] == ["fit.npz"]
