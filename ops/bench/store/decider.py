"""Smart routing's actor, in a process of its own, over a database that holds the rows."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation
from deployments.store.sql.database import Database
from ops.bench.store.rows import AIOS_SIMILAR, NEW, PRICES, Rows
from ops.bench.store.timing import INSERTING_S, Figures
from serve.config import StoreConfig
from serve.routing.strategy import Question

_WRITTEN = 2_000  # rows in a transaction
_START_S = 3600.0


def write(database: Database, rows: Rows) -> float:
    """Writes all rows durably; returns the seconds taken."""
    began = time.perf_counter()
    for start in range(0, len(rows), _WRITTEN):
        database.write(
            [
                Observation(
                    f"query {row}",
                    rows.past[row],
                    model,
                    "import:bench",
                    quality=float(rows.quality[row, column]),
                    output_tokens=float(rows.tokens[row, column]),
                    input_tokens=40,
                    characters=160,
                )
                for row in range(start, min(start + _WRITTEN, len(rows)))
                for column, model in enumerate(PRICES)
            ]
        )
    return time.perf_counter() - began


class _NoEmbedder:
    """Stands in for the embedder's handle, which is unused: no history is imported."""

    async def remote(self, texts: list[str]) -> Floats32:
        raise RuntimeError("the benchmark has no history to embed")


class Actor:
    """Smart routing's actor in a process of its own, started over a database."""

    def __init__(self, url: str, rows: Rows) -> None:
        from serve.smart.actor import DeciderActor

        self._rows = rows
        began = time.perf_counter()
        remote: Any = DeciderActor
        identities = {model: f"bench/{model}" for model in PRICES}
        self._actor = remote.remote(identities, {}, StoreConfig(url=url).model_dump(mode="json"))
        self._call("configure", PRICES, AIOS_SIMILAR, "bench", _NoEmbedder())
        deadline = began + _START_S
        while (status := self._call("status"))["status"] != "ready":
            if status["status"] == "failed" or time.perf_counter() > deadline:
                raise RuntimeError(f"the actor did not start: {status}")
            time.sleep(0.1)
        self.start_s = time.perf_counter() - began

    def __call__(self, number: int) -> Any:
        """Decides for a new query."""
        return self._call("decide", *self._question(number))

    def learning(self) -> Figures:
        """Answers stored durably each second, while decisions are requested."""
        return asyncio.run(self._learning())

    def megabytes(self) -> float:
        """The memory of the actor's process."""
        import psutil

        processes = psutil.Process().children(recursive=True)
        mine = [p for p in processes if "DeciderActor" in "".join(p.cmdline())]
        return float(sum(process.memory_info().rss for process in mine)) / 2**20

    def close(self) -> None:
        """Ends the process."""
        import ray

        ray.kill(self._actor)

    async def _learning(self) -> Figures:
        ends = time.perf_counter() + INSERTING_S
        learned = 0

        async def learn(learner: int) -> None:
            nonlocal learned
            turn = 0
            while time.perf_counter() < ends:
                row, turn = (learner * 997 + turn) % len(self._rows), turn + 1
                name = f"answer {learner} {turn}"
                model = list(PRICES)[turn % len(PRICES)]
                seen = Observation(name, self._rows.past[row], model, "answers", output_tokens=50)
                answer = AnswerRecord(name, model, 0.5, None, 1e-4)
                await self._actor.learn.remote(seen, answer)
                learned += 1

        times: list[float] = []

        async def decide() -> None:
            while (now := time.perf_counter()) < ends:
                await self._actor.decide.remote(*self._question(len(times) % NEW))
                times.append(time.perf_counter() - now)

        await asyncio.gather(decide(), *(learn(number) for number in range(32)))
        return {
            "learned_per_s": learned / INSERTING_S,
            "decision_while_learning_ms": 1e3 * float(np.median(times)),
        }

    def _question(self, number: int) -> tuple[Question, Floats32]:
        """A new query and its embedding."""
        models = tuple(PRICES)
        question = Question(
            candidates=models,
            available=models,
            query=f"new query {number}",
            characters=160,
            requirement=0.7,
        )
        return question, self._rows.new[number]

    def _call(self, method: str, *args: Any) -> Any:
        import ray

        return ray.get(getattr(self._actor, method).remote(*args))


@contextmanager
def local_ray() -> Iterator[None]:
    """Runs a Ray of its own until the block ends."""
    import ray

    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()
