"""Times of the store at 10^3 to 10^6 past queries, beside Chroma as AIOS uses it.

    python -m ops.bench.store [--data FOLDER] [--most ROWS] [--out FOLDER]

Past queries are the recorded ones, embedded, and as many more as are needed: each lies between a
recorded one and one of its 32 nearest, moved by half of the way between two other near ones.
New queries are recorded ones that are kept apart. Ends with one line of JSON.
"""

import argparse
import asyncio
import json
import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deployments.embedding.encoder import DEFAULT_MODEL, Encoder
from deployments.store.evidence import Floats32, Integers
from deployments.store.memory.nearest import nearest
from deployments.store.memory.vector_index import VectorIndex
from deployments.store.observations import AnswerRecord, Observation
from deployments.store.sql.database import Database
from ops.bench.routing import DATA, embedded, optimiser_seconds
from serve.config import StoreConfig
from serve.routing.decider import Question
from serve.routing.prices import Price

SIZES = (1_000, 10_000, 100_000, 1_000_000)
NEW = 300  # queries that are timed
AIOS_SIMILAR = 16  # AIOS's default, and what recall is told of
SIMILAR = (16, 64, 128, 256, 512)
PRICES = {
    f"model-{number}": Price(cost, 4 * cost) for number, cost in enumerate([1e-7, 5e-7, 2e-6, 1e-5])
}
INSERTING_S = 3.0
_BLOCK = 50_000  # rows made or compared at a time
_WRITTEN = 2_000  # rows of one transaction
_START_S = 3600.0

Figures = dict[str, float]


@dataclass(frozen=True)
class Rows:
    """n past queries with what each model did, and the truly nearest of the new ones.

    Attributes:
        past: (n, d) embeddings, each of length 1.
        quality: (n, m), 0 or 1.
        tokens: (n, m).
        new: (NEW, d).
        near: (NEW, AIOS_SIMILAR) row numbers, nearest first.
    """

    past: Floats32
    quality: Floats32
    tokens: Floats32
    new: Floats32
    near: Integers

    def __len__(self) -> int:
        return len(self.past)

    def recall(self, number: int, ids: Sequence[int]) -> float:
        """Share of the truly nearest of a new query that `ids` begin with."""
        return len(set(ids[:AIOS_SIMILAR]) & set(self.near[number].tolist())) / AIOS_SIMILAR


def made(recorded: Floats32, n: int) -> Rows:
    """n past queries as told at the top of the file."""
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
    skill = np.linspace(-0.5, 1.5, len(PRICES))
    difficulty = past @ real[0] * 4 - 1
    chance = 1 / (1 + np.exp(difficulty[:, None] - skill))
    quality = (random.uniform(size=chance.shape) < chance).astype(np.float32)
    tokens = random.integers(20, 800, size=chance.shape).astype(np.float32)
    return Rows(past, quality, tokens, new, _nearest(new, past))


def _nearest(new: Floats32, past: Floats32) -> Integers:
    """(b, AIOS_SIMILAR) of all of `past`, block by block."""
    ids = np.zeros((len(new), 0), np.int64)
    cosines = np.zeros((len(new), 0), np.float32)
    for start in range(0, len(past), _BLOCK):
        found, near = nearest(new, past[start : start + _BLOCK], AIOS_SIMILAR)
        ids, cosines = np.hstack([ids, found + start]), np.hstack([cosines, near])
    order = np.argsort(-cosines, axis=1)[:, :AIOS_SIMILAR]
    return np.take_along_axis(ids, order, axis=1)


# --- what is timed: each looks up one new query, by its number ---

Lookup = Callable[[int], Any]


def milliseconds(lookups: dict[str, Lookup]) -> Figures:
    """Medians and 95th percentiles of each, taken in turn, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in lookups}
    for name, look in lookups.items():
        for number in range(20):
            look(number)
        times[name].clear()
    for number in range(NEW):
        for name, look in lookups.items():
            began = time.perf_counter()
            look(number)
            times[name].append(time.perf_counter() - began)
    figures = {}
    for name, taken in times.items():
        figures[f"{name}_ms"] = 1e3 * float(np.median(taken))
        figures[f"{name}_p95_ms"] = 1e3 * float(np.percentile(taken, 95))
    return figures


def built(rows: Rows) -> tuple[VectorIndex, Figures]:
    """The index over all rows."""
    index = VectorIndex(rows.past.shape[1])
    began = time.perf_counter()
    index.add(np.arange(len(rows)), rows.past)
    taken = time.perf_counter() - began
    found = [index.search(rows.new[i : i + 1], AIOS_SIMILAR)[0][0] for i in range(NEW)]
    return index, {
        "build_s": taken,
        "bytes_per_row": index.memory / len(rows),
        "recall_at_16": float(np.mean([rows.recall(i, ids) for i, ids in enumerate(found)])),
    }


def inserting(index: VectorIndex, rows: Rows) -> Figures:
    """Rows added each second by one thread while another searches for 128 neighbours."""
    done = threading.Event()
    added = 0

    def add() -> None:
        nonlocal added
        while not done.is_set():
            ids = np.arange(added, added + 16)
            index.add(ids + len(rows), rows.past[ids % len(rows)])
            added += 16

    thread = threading.Thread(target=add)
    thread.start()
    times: list[float] = []
    began = time.perf_counter()
    while (now := time.perf_counter()) - began < INSERTING_S:
        index.search(rows.new[len(times) % NEW][None], 128)
        times.append(time.perf_counter() - now)
    done.set()
    thread.join()
    return {
        "inserts_per_s": added / INSERTING_S,
        "search_128_while_inserting_ms": 1e3 * float(np.median(times)),
    }


class Chroma:
    """What AIOS does: Chroma on the disk, and outcomes as JSON in its metadata.

    Source: https://github.com/agiresearch/AIOS (aios/llm_core/routing.py)
    """

    def __init__(self, folder: str, rows: Rows) -> None:
        from chromadb import PersistentClient
        from chromadb.config import Settings

        self._rows = rows
        client = PersistentClient(folder, Settings(anonymized_telemetry=False))
        self._collection = client.create_collection("train_queries", embedding_function=None)
        began = time.perf_counter()
        for start in range(0, len(rows), 5_000):
            part = range(start, min(start + 5_000, len(rows)))
            self._collection.add(
                ids=[f"id{row}" for row in part],
                embeddings=rows.past[part.start : part.stop],
                documents=[f"query {row}" for row in part],
                metadatas=[{"input_token_length": 40, "models": self._models(r)} for r in part],
            )
        self.build_s = time.perf_counter() - began

    def __call__(self, number: int) -> tuple[list[int], dict[str, float]]:
        """Row numbers of the nearest, and the share of correct answers of each model."""
        found: Any = self._collection.query(
            query_embeddings=self._rows.new[number : number + 1], n_results=AIOS_SIMILAR
        )
        scores = defaultdict(list)
        for metadata in found["metadatas"][0]:
            for model in json.loads(metadata["models"]):
                scores[model["model_name"]].append(model["correctness"])
        ids = [int(id.removeprefix("id")) for id in found["ids"][0]]
        return ids, {model: sum(known) / len(known) for model, known in scores.items()}

    def figures(self) -> Figures:
        """How it was built, and how well it finds."""
        recalls = [self._rows.recall(number, self(number)[0]) for number in range(NEW)]
        return {"chroma_build_s": self.build_s, "chroma_recall_at_16": float(np.mean(recalls))}

    def _models(self, row: int) -> str:
        outcomes = zip(PRICES, self._rows.quality[row], self._rows.tokens[row], strict=True)
        return json.dumps(
            [
                {"model_name": m, "correctness": bool(q), "output_token_length": int(t)}
                for m, q, t in outcomes
            ]
        )


# --- the whole way: the actor of smart routing over a database that holds the rows ---


def written(database: Database, rows: Rows) -> float:
    """Seconds to write all rows durably."""
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
    """In the place of the embedder's handle: nothing is embedded where no history is taken in."""

    async def remote(self, texts: list[str]) -> Floats32:
        raise RuntimeError("the bench has no history to embed")


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
        return self._call("decide", self._question(number))

    def learning(self) -> Figures:
        """Answers that are kept durably each second, while decisions are asked for."""
        return asyncio.run(self._learning())

    def megabytes(self) -> float:
        """Memory of the actor's process."""
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
                await self._actor.decide.remote(self._question(len(times) % NEW))
                times.append(time.perf_counter() - now)

        await asyncio.gather(decide(), *(learn(number) for number in range(32)))
        return {
            "learned_per_s": learned / INSERTING_S,
            "decision_while_learning_ms": 1e3 * float(np.median(times)),
        }

    def _question(self, number: int) -> Question:
        everyone = tuple(PRICES)
        return Question(f"new query {number}", self._rows.new[number], 160, everyone, everyone, 0.7)

    def _call(self, method: str, *args: Any) -> Any:
        import ray

        return ray.get(getattr(self._actor, method).remote(*args))


@contextmanager
def local_ray() -> Iterator[None]:
    """A Ray for this run alone."""
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


# --- runs ---


def measure(recorded: Floats32, n: int) -> Figures:
    """All figures at n rows."""
    rows = made(recorded, n)
    index, figures = built(rows)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/store.db"
        database = Database(url, DEFAULT_MODEL, rows.past.shape[1])
        figures["write_s"] = written(database, rows)
        database.close()
        actor, chroma = Actor(url, rows), Chroma(f"{folder}/chroma", rows)
        try:
            figures |= {"start_s": actor.start_s, "actor_megabytes": actor.megabytes()}
            figures |= chroma.figures()
            searches = {f"search_{k}": _search(index, rows, k) for k in SIMILAR}
            figures |= milliseconds({"decision": actor, "chroma": chroma, **searches})
            figures["chroma_over_decision"] = figures["chroma_ms"] / figures["decision_ms"]
            figures["chroma_over_search"] = figures["chroma_ms"] / figures["search_16_ms"]
            figures |= actor.learning()
        finally:
            actor.close()
    return figures | inserting(index, rows)


def _search(index: VectorIndex, rows: Rows, k: int) -> Lookup:
    return lambda number: index.search(rows.new[number][None], k)


def embedding(queries: Sequence[str]) -> Figures:
    """Times of one query of 30 words, on one core."""
    encoder = Encoder()
    words = {" ".join(query.split()[:30]) for query in queries if len(query.split()) >= 30}
    texts = sorted(words)[:: len(words) // NEW]
    encoder(texts[:20])
    times = []
    for text in texts:
        began = time.perf_counter()
        encoder([text])
        times.append(time.perf_counter() - began)
    return {
        "embedding_ms": 1e3 * float(np.median(times)),
        "embedding_p10_ms": 1e3 * float(np.percentile(times, 10)),
    }


def table(results: dict[int, Figures]) -> str:
    """In Markdown, one column for each number of rows."""
    names = next(iter(results.values()))
    lines = [
        "| rows | " + " | ".join(f"{n:,}" for n in results) + " |",
        "|---" * (len(results) + 1) + "|",
    ]
    for name in names:
        told = " | ".join(f"{figures[name]:,.4g}" for figures in results.values())
        lines.append(f"| {name} | {told} |")
    return "\n".join(lines)


def main() -> None:
    """Runs all of it."""
    from pyarrow.parquet import read_table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ROUTING_DATA", DATA)))
    parser.add_argument("--most", type=int, default=100_000, help="rows (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/bench-store"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    recorded: list[Floats32] = []
    texts: list[str] = []
    for name in ("zeroeval", "mmlu_pro"):
        queries = read_table(arguments.data / f"{name}.parquet", columns=["query"])
        some = queries.column("query").to_pylist()
        texts += some
        recorded.append(embedded(some, arguments.out / "embeddings"))
    alone = embedding(texts) | optimiser_seconds()
    print(json.dumps(alone), flush=True)
    results = {}
    with local_ray():
        for n in SIZES:
            if n <= arguments.most:
                results[n] = measure(np.concatenate(recorded), n)
                print(n, json.dumps(results[n]), flush=True)
    (arguments.out / "tables.md").write_text(table(results))
    print(table(results))
    print(json.dumps({"cores": os.cpu_count(), "results": results, **alone}))


if __name__ == "__main__":
    main()
