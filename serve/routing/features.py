"""Cheap signs of how hard a text is, that an embedding of its meaning leaves out."""

import re
from collections.abc import Sequence

import numpy as np

from serve.routing.dual import Floats

_LONGEST = 20_000  # characters looked at
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_COUNTED = ("\n", "?", "\\", "$", "=", "(", "{", "[", ".", ",")


def text_features(queries: Sequence[str]) -> Floats:
    """(n, f) lengths, kinds of characters, numbers and marks of each text; logarithms of counts."""
    return np.array([_features(query[:_LONGEST]) for query in queries]).reshape(len(queries), -1)


def _features(text: str) -> list[float]:
    words, numbers = text.split(), _NUMBER.findall(text)
    counts = [
        len(text),
        len(words),
        len(numbers),
        max((min(float(number), 1e12) for number in numbers), default=0.0),
        max(map(len, words), default=0),
        *(text.count(mark) for mark in _COUNTED),
    ]
    parts = [
        sum(map(str.isdigit, text)),
        sum(map(str.isupper, text)),
        sum(not (letter.isalnum() or letter.isspace()) for letter in text),
        sum(not letter.isascii() for letter in text),
    ]
    return [
        *np.log1p(counts).tolist(),
        *(part / max(1, len(text)) for part in parts),
        len(set(words)) / max(1, len(words)),
    ]
