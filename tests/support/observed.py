"""Observations made up for tests of the store, with embeddings that depend on their texts."""

from typing import Any

import numpy as np

from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation, Outcome, Scored, key_of
from deployments.store.retention import Retention
from deployments.store.sql.database import Database

D = 8


def vector(text: str) -> Floats32:
    """An embedding of length 1."""
    seed = int.from_bytes(key_of(text)[:4], "big")
    numbers = np.random.default_rng(seed).standard_normal(D)
    unit: Floats32 = (numbers / np.linalg.norm(numbers)).astype(np.float32)
    return unit


def seen(
    query: str = "Why?", model: str = "small", source: str = "answers", **known: Any
) -> Observation:
    return Observation(query, vector(query), model, source, **known)


def answered(
    id: str, query: str = "Why?", model: str = "small", **known: Any
) -> tuple[Observation, AnswerRecord]:
    return seen(query, model, output_tokens=10), AnswerRecord(id, model, **known)


def scored(
    database: Database, id: str, score: float, *, again: bool = False
) -> tuple[int | None, Scored]:
    """Scores a known answer."""
    (found,) = database.score([(id, score)], again=again)
    assert found is not None
    return found


def retained(
    database: Database, most: int | None = None, days: float | None = None, answer_hours: float = 48
) -> list[int]:
    """Enforces this retention; the numbers of the queries deleted."""
    database.retention = Retention(most, days, answer_hours)
    return database.retain()


def outcomes(database: Database) -> dict[str, dict[str, Outcome]]:
    """What each model did, by the query's text."""
    return {row.query: row.outcomes for batch in database.rows() for row in batch}
