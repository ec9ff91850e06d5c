"""Predicts the lengths of JSON answers, and of those that may call tools, from plain ones' lengths
and a mean for each model and shape."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from deployments.shapes import Shape
from deployments.store.observations import MeanLength
from serve.routing.arrays import Floats

_CAUTION = 4.0  # answers; the weight of what is predicted without those of the shape


class ShapeLengths:
    """What is known of the lengths of answers of other shapes than text.

    Args:
        known: for each shape, mean lengths (m,) and numbers of answers (m,).
    """

    def __init__(self, known: Mapping[Shape, tuple[Floats, Floats]]) -> None:
        self._known = known

    @classmethod
    def of(cls, lengths: Iterable[MeanLength], models: Sequence[str]) -> "ShapeLengths":
        """The lengths of these models' answers; those of others are left out."""
        column = {model: at for at, model in enumerate(models)}
        known: dict[Shape, tuple[Floats, Floats]] = {}
        for length in lengths:
            if length.model not in column:
                continue
            nothing = np.zeros(len(models)), np.zeros(len(models))
            mean, count = known.setdefault(length.shape, nothing)
            mean[column[length.model]] = length.output_tokens
            count[column[length.model]] = length.count
        return cls(known)

    def predict(self, shape: Shape, plain: Floats) -> Floats:
        """(b, m) predicted lengths of answers of a shape.

        A model's mean length is shrunk to what plain answers suggest: their predicted length, times
        the ratio of lengths of all models together, so that a model without answers of this shape
        compares fairly with one that has some. The ratio is in turn shrunk to 1. Source: Cochran,
        "Sampling Techniques", 3rd edition (1977), chapter 6, the combined ratio estimate.

        Args:
            shape: of the answers.
            plain: (b, m) predicted lengths of plain answers to the same queries, in tokens.
        """
        if shape not in self._known:
            return plain
        mean, count = self._known[shape]
        typical = _CAUTION * np.maximum(plain.mean(axis=1), 1.0)
        ratio = (count @ mean + typical) / (plain @ count + typical)
        suggested = plain * ratio[:, None]
        lengths: Floats = (count * mean + _CAUTION * suggested) / (count + _CAUTION)
        return lengths
