"""The past queries, recorded and synthetic, and the new ones that are looked up."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from deployments.store.evidence import Floats32, Integers
from deployments.store.memory.nearest import nearest
from serve.routing.prices import Price

NEW = 300  # queries that are timed
AIOS_SIMILAR = 16  # AIOS's default, for which recall is reported
ANSWERED = 4  # models whose outcome is known on each past query
_CHEAPEST, _DEAREST = 1e-7, 1e-5  # USD for a token of input
_BLOCK = 50_000  # rows created or compared at a time
_TEXTS = "texts.json"


@dataclass(frozen=True)
class Rows:
    """n past queries with some models' outcomes, and the true nearest neighbours of the new ones.

    Attributes:
        past: (n, d) embeddings, each of length 1.
        column: (n, ANSWERED), the models whose outcomes are known.
        quality: (n, ANSWERED), 0 or 1.
        tokens: (n, ANSWERED).
        new: (NEW, d).
        near: (NEW, AIOS_SIMILAR) row numbers, nearest first.
        texts: of the new ones.
    """

    past: Floats32
    column: Integers
    quality: Floats32
    tokens: Floats32
    new: Floats32
    near: Integers
    texts: Sequence[str]

    @classmethod
    def load(cls, folder: Path) -> "Rows":
        """What `save` wrote there, mapped."""
        texts = json.loads((folder / _TEXTS).read_text())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _arrays()}
        return cls(**arrays, texts=texts)

    def save(self, folder: Path) -> None:
        """Writes all of it for other processes into a new folder."""
        folder.mkdir()
        (folder / _TEXTS).write_text(json.dumps(list(self.texts)))
        for name in _arrays():
            np.save(folder / f"{name}.npy", getattr(self, name))

    def __len__(self) -> int:
        return len(self.past)

    def recall(self, number: int, ids: Sequence[int]) -> float:
        """The share of a new query's true nearest neighbours among the first of `ids`."""
        return len(set(ids[:AIOS_SIMILAR]) & set(self.near[number].tolist())) / AIOS_SIMILAR


def prices_of(models: int) -> dict[str, Price]:
    """Models by name, with prices that are spread geometrically."""
    costs = np.geomspace(_CHEAPEST, _DEAREST, models).tolist()
    return {f"model-{number}": Price(cost, 4 * cost) for number, cost in enumerate(costs)}


def synthesise(recorded: Floats32, texts: Sequence[str], n: int, models: int) -> Rows:
    """n past queries, as the package's docstring describes."""
    random = np.random.default_rng(0)
    order = random.permutation(len(recorded))
    new, real = recorded[order[:NEW]], recorded[order[NEW:]]
    close = nearest(real, real, 33)[0]
    past = np.empty((n, real.shape[1]), np.float32)
    past[: len(real)] = real[:n]
    for start in range(len(real), n, _BLOCK):
        size = min(_BLOCK, n - start)
        one, other = random.integers(len(real), size=(2, size))
        mate, shift = (close[row, random.integers(1, 33, size=size)] for row in (one, other))
        share = random.uniform(size=(size, 1)).astype(np.float32)
        mixed = share * real[one] + (1 - share) * real[mate] + (real[other] - real[shift]) / 2
        past[start : start + size] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    column = _some_models(random, n, models)
    difficulty = past @ real[0] * 4 - 1
    skill = np.linspace(-0.5, 1.5, models)[column]
    chance = 1 / (1 + np.exp(difficulty[:, None] - skill))
    quality = (random.uniform(size=chance.shape) < chance).astype(np.float32)
    tokens = random.integers(20, 800, size=chance.shape).astype(np.float32)
    asked = [texts[row] for row in order[:NEW]]
    return Rows(past, column, quality, tokens, new, _nearest(new, past), asked)


def _some_models(random: np.random.Generator, n: int, models: int) -> Integers:
    """(n, ANSWERED) different models for each row, ascending."""
    blocks = [
        np.argpartition(random.random((min(_BLOCK, n - start), models)), ANSWERED - 1, axis=1)
        for start in range(0, n, _BLOCK)
    ]
    return np.sort(np.concatenate([block[:, :ANSWERED] for block in blocks]), axis=1)


def _nearest(new: Floats32, past: Floats32) -> Integers:
    """The row numbers (b, AIOS_SIMILAR) of the nearest in all of `past`, found block by block."""
    ids = np.zeros((len(new), 0), np.int64)
    cosines = np.zeros((len(new), 0), np.float32)
    for start in range(0, len(past), _BLOCK):
        found, near = nearest(new, past[start : start + _BLOCK], AIOS_SIMILAR)
        ids, cosines = np.hstack([ids, found + start]), np.hstack([cosines, near])
    order = np.argsort(-cosines, axis=1)[:, :AIOS_SIMILAR]
    return np.take_along_axis(ids, order, axis=1)


def _arrays() -> list[str]:
    return [field.name for field in fields(Rows) if field.name != "texts"]
