"""Times of looking up new queries, of adding rows meanwhile, and of embedding."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deployments.embedding.encoder import Encoder
from deployments.store.memory.vector_index import VectorIndex
from ops.bench.store.rows import AIOS_SIMILAR, NEW, Rows

INSERTING_S = 3.0

Figures = dict[str, float]
# Looks up one new query, by its number.
Lookup = Callable[[int], Any]


def milliseconds(lookups: dict[str, Lookup]) -> Figures:
    """Medians and 95th percentiles of each, interleaved, so that all see the same load."""
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
    for name, seconds in times.items():
        figures[f"{name}_ms"] = 1e3 * float(np.median(seconds))
        figures[f"{name}_p95_ms"] = 1e3 * float(np.percentile(seconds, 95))
    return figures


def build_index(rows: Rows) -> tuple[VectorIndex, Figures]:
    """Builds the index over all rows."""
    index = VectorIndex(rows.past.shape[1])
    began = time.perf_counter()
    index.add(np.arange(len(rows)), rows.past)
    seconds = time.perf_counter() - began
    found = [index.search(rows.new[i : i + 1], AIOS_SIMILAR)[0][0] for i in range(NEW)]
    return index, {
        "build_s": seconds,
        "bytes_per_row": index.memory / len(rows),
        "recall_at_16": float(np.mean([rows.recall(i, ids) for i, ids in enumerate(found)])),
    }


def inserting(index: VectorIndex, rows: Rows) -> Figures:
    """Rows that one thread adds each second while another searches for 128 neighbours."""
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


def search(index: VectorIndex, rows: Rows, k: int) -> Lookup:
    return lambda number: index.search(rows.new[number][None], k)


def embedding(queries: Sequence[str]) -> Figures:
    """Times to embed a query of 30 words, on one core."""
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
