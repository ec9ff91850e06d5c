"""Synthetic past queries, whose probabilities of a right answer are known."""

import numpy as np

from deployments.store.evidence import Floats32, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.routing.arrays import Floats
from serve.routing.forecast.predictor import Prediction, Predictor


def world(
    n: int, models: int = 4, seed: int = 0, known: float = 1.0, dimensions: int = 16
) -> tuple[Snapshot, Floats]:
    """Queries on a sphere: one direction is difficulty, and more expensive models are better."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(n, dimensions)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    skill = np.linspace(-0.5, 1.5, models)
    chance = 1 / (1 + np.exp(-(skill + 6 * embeddings[:, :1])))
    quality = (random.random((n, models)) < chance).astype(np.float32)
    quality[random.random((n, models)) >= known] = np.nan
    tokens = np.full((n, models), 100, np.float32)
    tokens[np.isnan(quality)] = np.nan
    weight = (~np.isnan(quality)).astype(np.float32)
    queries = [f"question {number}" for number in range(n)]
    return Snapshot(queries, embeddings, quality, tokens, weight), chance


def predict(
    predictor: Predictor, snapshot: Snapshot, embeddings: Floats32, k: int = 32
) -> Prediction:
    """What a predictor makes of queries with these embeddings, by their k nearest past ones."""
    evidence = SnapshotEvidence(snapshot)
    found = evidence.neighbours(embeddings, k)
    queries = ["question 1"] * len(embeddings)
    return predictor.predict(queries, embeddings, found, evidence.means())
