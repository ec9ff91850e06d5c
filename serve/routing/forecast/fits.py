"""A fitted predictor in a file: the store's actor writes it, routers read it."""

from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np

from serve.routing.arrays import Floats
from serve.routing.forecast.fitting import Backtest, BlendPredictor, Refit, Shares
from serve.routing.forecast.mlp import MLP
from serve.routing.forecast.predictor import NeighbourPredictor, Predictor, Smoothing

_WEIGHTS = "hidden", "hidden_bias", "output", "output_bias"


def write_fit(file: Path, fitted: Refit) -> None:
    """Writes it, without its neighbours' prior, which depends on prices; the file appears when it
    is complete."""
    arrays: dict[str, Any] = {
        "characters": fitted.characters,
        "losses": np.array([fitted.loss, fitted.neighbours_loss]),
        "smoothing": np.array(astuple(fitted.predictor.smoothing)),
    }
    tested = {name: getattr(fitted.backtest, name) for name in _names(Backtest)}
    arrays |= {name: array for name, array in tested.items() if array is not None}
    if fitted.agreement is not None:
        arrays |= {"pairs": np.array(fitted.pairs, np.int64), "agreement": fitted.agreement}
    if isinstance(fitted.predictor, BlendPredictor):
        mlp, shares = fitted.predictor.mlp, fitted.predictor.shares
        arrays |= {"shift": mlp.shift, "scale": mlp.scale}
        arrays |= dict(zip(_WEIGHTS, mlp.weights, strict=True))
        arrays |= {name: np.asarray(getattr(shares, name)) for name in _names(Shares)}
    part = file.with_name(f".{file.name}")
    with part.open("wb") as written:
        np.savez(written, **arrays)
    part.rename(file)


def read_fit(file: Path, prior: Floats) -> Refit:
    """What `write_fit` wrote.

    Args:
        file: written by `write_fit`.
        prior: (m,) the models' prior qualities, 0 to 1.

    Raises:
        OSError: there is no such file.
    """
    with np.load(file) as found:
        arrays = dict(found)
    # Fits of earlier versions say nothing of it, and are by the defaults.
    near = NeighbourPredictor(prior, Smoothing(*map(float, arrays.get("smoothing", ()))))
    predictor: Predictor = near
    if accepted := "shift" in arrays:
        hidden, hidden_bias, output, output_bias = (arrays[name] for name in _WEIGHTS)
        weights = hidden, hidden_bias, output, output_bias
        mlp = MLP(arrays["shift"], arrays["scale"], weights)
        level, difference = float(arrays["level"]), float(arrays["difference"])
        predictor = BlendPredictor(near, mlp, Shares(level, difference, arrays["trust"]))
    backtest = Backtest(**{name: arrays[name] for name in _names(Backtest) if name in arrays})
    loss, neighbours_loss = map(float, arrays["losses"])
    pairs = [(int(one), int(other)) for one, other in arrays.get("pairs", ())]
    return Refit(
        *(predictor, arrays["characters"], backtest, accepted, loss, neighbours_loss),
        pairs=pairs,
        agreement=arrays.get("agreement"),
    )


def _names(kind: type[Backtest | Shares]) -> list[str]:
    return [field.name for field in fields(kind)]
