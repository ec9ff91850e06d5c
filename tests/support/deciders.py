"""Deciders made up for tests: easy queries and hard ones, for which three models differ."""

import numpy as np

from deployments.store.evidence import Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.routing.decider import Decider
from serve.routing.prices import Price
from serve.routing.strategy import Question, Ranking

PRICES = {"small": Price(1e-7, 4e-7), "middle": Price(5e-7, 2e-6), "large": Price(3e-6, 1.2e-5)}
MODELS = tuple(PRICES)
EASY, HARD = np.eye(8, dtype=np.float32)[:2]


def nothing(models: int = 3) -> SnapshotEvidence:
    """No past queries."""
    none = np.zeros((0, models), np.float32)
    return SnapshotEvidence(Snapshot([], np.zeros((0, 8), np.float32), none, none, none))


def known(rows: int = 400) -> Snapshot:
    """Easy queries go well everywhere, hard ones with the large model alone."""
    random = np.random.default_rng(0)
    hard = np.arange(rows) % 2 == 1
    embeddings = np.where(hard[:, None], HARD, EASY) + random.normal(0, 0.02, (rows, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    chance = np.where(hard[:, None], [0.05, 0.3, 0.95], [0.93, 0.95, 0.97])
    quality = (random.random((rows, 3)) < chance).astype(np.float32)
    tokens = np.full((rows, 3), 100, np.float32)
    return Snapshot(
        [f"{'hard' if h else 'easy'} {i}" for i, h in enumerate(hard)],
        embeddings.astype(np.float32),
        quality,
        tokens,
        np.ones((rows, 3), np.float32),
    )


def warm() -> Decider:
    """A decider that knows these."""
    snapshot = known()
    decider = Decider(SnapshotEvidence(snapshot), PRICES)
    decider.use(decider.forecaster(fitted=decider.refit(snapshot)))
    return decider


def prepare(decider: Decider, question: Question) -> None:
    """Prepares a question's policy, as a router does in a thread."""
    if name := decider.claim(question):
        decider.begin(question, decider.new_policy(name))
        decider.release(name)


def decide(decider: Decider, question: Question) -> Ranking:
    prepare(decider, question)
    return decider.decide(question, {"easy": EASY, "hard": HARD}.get(question.query))


def question(hard: bool = False, **more: object) -> Question:
    fields = {
        "query": "hard" if hard else "easy",
        "characters": 400,
        "candidates": MODELS,
        "available": MODELS,
        "requirement": 0.9,
    }
    return Question(**{**fields, **more})  # type: ignore[arg-type]
