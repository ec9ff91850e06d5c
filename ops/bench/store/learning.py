"""Learning beside decisions: how many answers a second, and how soon another router knows one."""

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray

from deployments.store.observations import AnswerRecord, Learned, Observation
from ops.bench.store.router import Decided, decided_figures
from ops.bench.store.rows import Rows
from ops.bench.store.timing import Figures
from ops.bench.store.writing import identity

SENDERS = 4  # routers whose answers end at once
BATCH = 32  # answers; a router learns from no more of them each second
PACE_S = 5e-3  # between decisions meanwhile
_TRIALS = 10
_FAR = 0.05  # how far a new query is from a past one, in each dimension


class Answers:
    """Makes up answers to queries that the store doesn't have yet, each near a past one."""

    def __init__(self, rows: Rows, models: list[str]) -> None:
        self._rows, self._models = rows, models
        self._random = np.random.default_rng(1)
        self._made = 0

    def __call__(self, number: int) -> list[tuple[Observation, AnswerRecord]]:
        """So many answers, as `serve.smart.learning.Learner` sends them."""
        near = np.sort(self._random.integers(len(self._rows), size=number))
        new = self._rows.past[near] + self._random.normal(
            0, _FAR, (number, self._rows.past.shape[1])
        )
        new = (new / np.linalg.norm(new, axis=1, keepdims=True)).astype(np.float32)
        chosen = self._random.integers(len(self._models), size=number)
        self._made += number
        return [
            self._answer(self._made - number + at, vector, self._models[model])
            for at, (vector, model) in enumerate(zip(new, chosen, strict=True))
        ]

    def _answer(self, number: int, vector: Any, model: str) -> tuple[Observation, AnswerRecord]:
        stands_for = identity(model)
        seen = Observation(
            f"answered query {number}",
            vector,
            model,
            "answers",
            output_tokens=50,
            seconds=1.0,
            input_tokens=40,
            characters=160,
            identity=stands_for,
        )
        return seen, AnswerRecord(f"answer {number}", model, 0.5, None, 1e-4, stands_for)


def learned(store: Any, routers: Any, folder: Path, models: list[str], seconds: float) -> Figures:
    """All figures. Answers come from a process of Ray's, whose priority is that of routers.

    Args:
        store: the store's actor.
        routers: two of them, with a copy.
        folder: of the rows.
        models: names.
        seconds: for how long answers are learned.
    """

    one, other = routers

    def work() -> Figures:
        answers = Answers(Rows.load(folder), models)
        return asyncio.run(_all(store, one, other, answers, seconds))

    remote: Any = ray.remote(num_cpus=0)(work)
    figures: Figures = ray.get(remote.remote())
    return figures


async def _all(store: Any, one: Any, other: Any, answers: Answers, seconds: float) -> Figures:
    return {
        **await _freshness(one, other, answers),
        **await _learning(store, one, answers, seconds),
    }


async def _learning(store: Any, router: Any, answers: Answers, seconds: float) -> Figures:
    """Answers that the store's actor stores durably each second, from some senders that each wait
    for the batch before, while a router decides every 5 ms."""
    ends = time.monotonic() + seconds
    stored = refused = 0

    async def send() -> None:
        nonlocal stored, refused
        while time.monotonic() < ends:
            batch: list[Learned] = [*answers(BATCH)]
            refused += await store.learn.remote(batch)
            stored += len(batch)

    began = time.monotonic()
    deciding = router.decide.remote(0, seconds, PACE_S)
    await asyncio.gather(*(send() for _ in range(SENDERS)))
    stored_per_s = stored / (time.monotonic() - began)
    decided: Decided = await deciding
    if refused:
        raise RuntimeError(f"{refused} answers were not stored")
    return {
        "learned_per_s": stored_per_s,
        **decided_figures("decision_while_learning", decided),
    }


async def _freshness(one: Any, other: Any, answers: Answers) -> Figures:
    """From the moment that one router sends an answer to the store, until decisions in another one
    know of it. Before that, a router waits for up to 0.2 s, to send several at once."""
    random = np.random.default_rng(2)
    seconds = []
    for _ in range(_TRIALS):
        await asyncio.sleep(random.uniform(0, 1))
        [item] = answers(1)
        sees = other.sees.remote(item[0].embedding)
        began = await one.learn.remote([item])
        seconds.append(await sees - began)
    return {"freshness_s": float(np.median(seconds)), "freshness_most_s": max(seconds)}
