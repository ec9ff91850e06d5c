"""Stores made up for tests: what they are told, and what their copies say."""

from pathlib import Path
from typing import Any

import numpy as np

from deployments.store.copies.copy import Copy
from deployments.store.copies.folder import Folder
from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore

D = 8
PATIENCE_S = 60  # for a write
IDENTITIES = {"small": "openai/small", "large": "openai/large"}


def vector(seed: int) -> Floats32:
    """An embedding of length 1."""
    numbers = np.random.default_rng(seed).normal(size=D).astype(np.float32)
    unit: Floats32 = numbers / np.linalg.norm(numbers)
    return unit


def seen(number: int, identity: str = IDENTITIES["small"], **known: Any) -> Observation:
    return Observation(
        f"query {number}", vector(number), "small", "answers", identity=identity, **known
    )


def answered(number: int, id: str, **known: Any) -> tuple[Observation, AnswerRecord]:
    record = AnswerRecord(id, "small", 0.8, "policy", identity=IDENTITIES["small"])
    return seen(number, **known), record


def opened(url: str, folder: Path) -> EmbeddingStore:
    return EmbeddingStore(Database(url, "encoder", D, identities=IDENTITIES), Folder(folder))


def published(store: EmbeddingStore) -> Copy:
    """The copy of what the store knows now."""
    store.publish()
    return store.publisher.copy


def ids(store: EmbeddingStore) -> set[int]:
    """The numbers of the queries in that copy."""
    store.publish()
    return store.publisher.ids()


def quality(store: EmbeddingStore, number: int) -> list[float]:
    """What that copy has of a query that it knows."""
    near = published(store).neighbours(vector(number)[None], 1)
    assert near.similarity[0, 0] > 0.99
    return [float(value) for value in near.outcomes.quality[near.outcomes.row == 0]]
