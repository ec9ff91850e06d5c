"""Times as figures, interleaved lookups, and the time of embedding."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deployments.embedding.encoder import Encoder
from ops.bench.store.rows import NEW

Figures = dict[str, float]
# Looks up one new query, by its number.
Lookup = Callable[[int], Any]

_WARM_UP = 20
_ROUNDS = 2


def spread(name: str, seconds: Sequence[float]) -> Figures:
    """The median and high percentiles, in milliseconds."""
    return {
        f"{name}_ms": 1e3 * float(np.median(seconds)),
        f"{name}_p95_ms": 1e3 * float(np.percentile(seconds, 95)),
        f"{name}_p99_ms": 1e3 * float(np.percentile(seconds, 99)),
    }


def interleaved(lookups: Mapping[str, Lookup]) -> Figures:
    """The times of each, in turn for every new query, so that all see the same load."""
    times: dict[str, list[float]] = {name: [] for name in lookups}
    for look in lookups.values():
        for number in range(_WARM_UP):
            look(number)
    for number in [*range(NEW)] * _ROUNDS:
        for name, look in lookups.items():
            began = time.perf_counter()
            look(number)
            times[name].append(time.perf_counter() - began)
    return {key: value for name in lookups for key, value in spread(name, times[name]).items()}


def embedding(queries: Sequence[str]) -> Figures:
    """Times to embed a query of 30 words, on one core."""
    encoder = Encoder()
    words = {" ".join(query.split()[:30]) for query in queries if len(query.split()) >= 30}
    texts = sorted(words)[:: len(words) // NEW]
    encoder(texts[:_WARM_UP])
    times = []
    for text in texts:
        began = time.perf_counter()
        encoder([text])
        times.append(time.perf_counter() - began)
    return {
        "embedding_ms": 1e3 * float(np.median(times)),
        "embedding_p10_ms": 1e3 * float(np.percentile(times, 10)),
    }
