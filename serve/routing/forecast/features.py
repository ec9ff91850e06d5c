"""Cheap indicators of a text's difficulty that an embedding of its meaning leaves out."""

import re
from collections.abc import Sequence

import numpy as np

from serve.routing.arrays import Floats

_LONGEST = 20_000  # characters; the rest of a text is ignored
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_COUNTED = [ord(mark) for mark in "\n?\\$=({[.,"]
_ASCII = [chr(code) for code in range(128)]
_KINDS = np.array(
    [
        [letter.isdigit() for letter in _ASCII],
        [letter.isupper() for letter in _ASCII],
        [not (letter.isalnum() or letter.isspace()) for letter in _ASCII],
    ],
    np.int64,
)


def text_features(queries: Sequence[str]) -> Floats:
    """(n, f) lengths, numbers, punctuation and kinds of characters of n texts; counts as logs.

    Characters outside ASCII are only counted.
    """
    return np.array([_features(query[:_LONGEST]) for query in queries]).reshape(len(queries), -1)


def _features(text: str) -> list[float]:
    words, numbers = text.split(), _NUMBER.findall(text)
    ascii_text = text.encode("ascii", "ignore")
    seen = np.bincount(np.frombuffer(ascii_text, np.uint8), minlength=128)
    counts = [
        len(text),
        len(words),
        len(numbers),
        min(max(map(float, numbers), default=0.0), 1e12),
        max(map(len, words), default=0),
        *seen[_COUNTED].tolist(),
    ]
    parts = [*(_KINDS @ seen).tolist(), len(text) - len(ascii_text)]
    return [
        *np.log1p(counts).tolist(),
        *(part / max(1, len(text)) for part in parts),
        len(set(words)) / max(1, len(words)),
    ]
