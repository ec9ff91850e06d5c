"""Small neural networks that predict all models' qualities from an embedding and text features.

Each fold of the rows has a network that is fitted on the other folds. Its own fold decides when to
stop and provides held-out predictions; new queries get the mean of all networks. Dropout of inputs
and hidden units prevents overfitting to a few thousand rows. Written in NumPy: networks this small
need nothing else, and the process that decides for all requests need not load PyTorch. Sources:
Srivastava et al., "Dropout", JMLR 15 (2014); Kingma and Ba, "Adam", ICLR 2015; Krogh and Vedelsby,
"Neural network ensembles, cross validation, and active learning", NIPS 7 (1994).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Floats32, Snapshot
from serve.routing.arrays import Floats
from serve.routing.forecast.features import text_features

_FOLDS = 5
_HIDDEN = 128
_INPUT_DROPOUT, _HIDDEN_DROPOUT = 0.4, 0.5
_LARGEST_BATCH = 128
_PATIENCE = 6  # epochs without better predictions of the held-out rows
_MOST_STEPS = 3000  # bounds the time: half a minute on one core
_RATE, _DECAY, _SQUARE_DECAY = 1e-3, 0.9, 0.999  # Adam's
_LARGEST_INPUT = 4.0  # standard deviations; limits extrapolation to unusual texts

Reals = npt.NDArray[np.floating[Any]]  # all float32, which NumPy's type stubs don't preserve
# Of f networks: hidden layer (f, d, h) and bias (f, 1, h), output (f, h, m) and bias (f, 1, m).
Weights = tuple[Reals, Reals, Reals, Reals]


@dataclass(frozen=True, slots=True)
class MLP:
    """The fitted networks; inputs are first shifted and scaled, by (d,) each."""

    shift: Reals
    scale: Reals
    weights: Weights

    def predict(self, queries: Sequence[str], embeddings: Floats32) -> Floats:
        """(b, m) qualities, 0 to 1."""
        inputs = _scaled(_raw_inputs(queries, embeddings), self.shift, self.scale)
        quality: Floats = _quality(self.weights, inputs).mean(axis=0, dtype=np.float64)
        return quality


def fit_mlp(snapshot: Snapshot) -> tuple[MLP, Floats]:
    """Fits on at least ten rows, each with at least one known quality; an old one counts less.

    Returns:
        The networks, and the predictions (n, m) for each row by the network that has not seen it.
    """
    random = np.random.default_rng(0)
    raw = _raw_inputs(snapshot.queries, snapshot.embeddings)
    shift, scale = raw.mean(axis=0), raw.std(axis=0) + 1e-6
    # One scale for all dimensions of the embedding preserves its geometry. Since there are many,
    # each weighs a third of a feature.
    dimensions = snapshot.embeddings.shape[1]
    scale[:dimensions] = 3 * np.sqrt((scale[:dimensions] ** 2).mean())
    inputs = _scaled(raw, shift, scale)
    known = snapshot.counting
    truth = np.nan_to_num(snapshot.quality)
    fold = random.permutation(len(raw)) % _FOLDS
    seen = [np.flatnonzero(fold != number) for number in range(_FOLDS)]
    rows = min(map(len, seen))
    batch = min(_LARGEST_BATCH, rows // 8)

    weights = _initial(random, inputs.shape[1], truth, known)
    adam = _Adam(weights)
    best, held_out, best_loss, waited = weights, np.zeros_like(truth), np.inf, 0
    while adam.steps < _MOST_STEPS and waited < _PATIENCE:
        order = np.stack([random.permutation(part)[:rows] for part in seen])
        for start in range(0, rows - batch + 1, batch):
            part = order[:, start : start + batch]
            gradients = _gradients(random, weights, inputs[part], truth[part], known[part])
            weights = adam.step(weights, gradients)
        guess = np.choose(fold[:, None], list(_quality(weights, inputs)))
        loss = float((known * (guess - truth) ** 2).sum())
        waited += 1
        if loss < best_loss:
            best, held_out, best_loss, waited = weights, guess, loss, 0
    return MLP(shift, scale, best), held_out.astype(np.float64)


def _raw_inputs(queries: Sequence[str], embeddings: Floats32) -> Reals:
    return np.hstack([embeddings, text_features(queries).astype(np.float32)])


def _scaled(raw: Reals, shift: Reals, scale: Reals) -> Reals:
    return np.clip((raw - shift) / scale, -_LARGEST_INPUT, _LARGEST_INPUT)


def _initial(random: np.random.Generator, dimensions: int, truth: Reals, known: Reals) -> Weights:
    """Weights that predict each model's mean for any query."""
    mean = ((known * truth).sum(axis=0) + 1) / (known.sum(axis=0) + 2)
    models = truth.shape[1]
    hidden = random.standard_normal((_FOLDS, dimensions, _HIDDEN), np.float32)
    return (
        hidden * sqrt(2 / dimensions),
        np.zeros((_FOLDS, 1, _HIDDEN), np.float32),
        np.zeros((_FOLDS, _HIDDEN, models), np.float32),
        np.tile(np.log(mean / (1 - mean)), (_FOLDS, 1, 1)),
    )


def _quality(weights: Weights, inputs: Reals) -> Reals:
    """(f, b, m) each network's predictions for (b, d) inputs."""
    hidden, hidden_bias, output, output_bias = weights
    return _sigmoid(np.maximum(inputs @ hidden + hidden_bias, 0) @ output + output_bias)


def _gradients(
    random: np.random.Generator,
    weights: Weights,
    inputs: Reals,
    truth: Reals,
    known: Reals,
) -> Weights:
    """Gradients of the outcomes' cross-entropy (f, b, m), weighted by how much each is `known`;
    each network has its own inputs."""
    hidden, hidden_bias, output, output_bias = weights
    inputs = inputs * _dropout_mask(random, inputs.shape, _INPUT_DROPOUT)
    units = inputs @ hidden + hidden_bias
    passes = (units > 0) * _dropout_mask(random, units.shape, _HIDDEN_DROPOUT)
    units *= passes
    error = (_sigmoid(units @ output + output_bias) - truth) * known / inputs.shape[1]
    back = (error @ output.transpose(0, 2, 1)) * passes
    return (
        inputs.transpose(0, 2, 1) @ back,
        back.sum(axis=1, keepdims=True),
        units.transpose(0, 2, 1) @ error,
        error.sum(axis=1, keepdims=True),
    )


def _dropout_mask(random: np.random.Generator, shape: tuple[int, ...], dropout: float) -> Reals:
    """A dropout mask: 0 with probability `dropout`, otherwise 1 / (1 − dropout)."""
    return (random.random(shape, np.float32) >= dropout).astype(np.float32) / (1 - dropout)


def _sigmoid(logits: Reals) -> Reals:
    quality: Reals = 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
    return quality


class _Adam:
    """Adam's gradient descent, with a rate for each weight."""

    def __init__(self, weights: Weights) -> None:
        self.steps = 0
        self._mean = [np.zeros_like(weight) for weight in weights]
        self._square = [np.zeros_like(weight) for weight in weights]

    def step(self, weights: Weights, gradients: Weights) -> Weights:
        self.steps += 1
        rate = _RATE * sqrt(1 - _SQUARE_DECAY**self.steps) / (1 - _DECAY**self.steps)
        moved = []
        for weight, gradient, mean, square in zip(
            weights, gradients, self._mean, self._square, strict=True
        ):
            mean += (1 - _DECAY) * (gradient - mean)
            square += (1 - _SQUARE_DECAY) * (gradient**2 - square)
            moved.append(weight - rate * mean / (np.sqrt(square) + 1e-8))
        return moved[0], moved[1], moved[2], moved[3]
