"""How well routing does where few models' outcomes are known of each past query, as in production.

Of each training query, the outcomes of some random models are known. The test queries of all five
folds are routed by neighbours alone, and by smart routing.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from deployments.store.evidence import Snapshot
from ops.bench.exploring.worth import Fit
from ops.bench.routing.curves import curve, singles, summary
from ops.bench.routing.data import Data, five_folds
from serve.routing.arrays import Floats

_CASES = (("zeroeval", 1, 4), ("zeroeval", 3, 3), ("mmlu_pro", 1, 2))  # outcomes known, and draws
_WAYS = "neighbours alone", "smart"


def sparse(snapshot: Snapshot, known: int, random: np.random.Generator) -> Snapshot:
    """The same past queries, each with the outcomes of so many random models alone."""
    unknown = random.random(snapshot.quality.shape).argsort(axis=1) >= known
    return replace(
        snapshot,
        quality=np.where(unknown, np.nan, snapshot.quality).astype(np.float32),
        output_tokens=np.where(unknown, np.nan, snapshot.output_tokens).astype(np.float32),
        weight=np.where(unknown, 0, snapshot.weight).astype(np.float32),
    )


def aiq(data: Data, known: int, draw: int) -> Floats:
    """(2,) of neighbours alone and of smart routing."""
    quality, cost = np.zeros((2, len(_WAYS), *data.score.shape))
    folds = five_folds(data)
    for number, (train, test) in enumerate(folds):
        random = np.random.default_rng([draw, number])
        smart = Fit.of(data, sparse(data.snapshot(train), known, random))
        near = getattr(smart.fitted.predictor, "neighbours", smart.fitted.predictor)
        alone = replace(smart, fitted=replace(smart.fitted, predictor=near))
        for way, fit in enumerate((alone, smart)):
            quality[way, test], cost[way, test] = fit.predict(data, test)
    rows = np.sort(np.concatenate([test for _, test in folds]))
    best = singles(data, rows)
    curves = [curve(data, rows, q[rows], c[rows]) for q, c in zip(quality, cost, strict=True)]
    return np.array([summary(points, best)["aiq"] for points in curves])


def sparse_rows(files: dict[str, Data]) -> Iterator[str]:
    """A table of mean AIQ over draws, with standard errors, as Markdown."""
    yield f"| outcomes known of each query | draws | {' | '.join(_WAYS)} |"
    yield "|---|---|---|---|"
    for name, known, draws in _CASES:
        data = files[name]
        found = np.array([aiq(data, known, draw) for draw in range(draws)])
        error = found.std(axis=0, ddof=1) / draws**0.5
        cells = [f"{m:.4f} ± {e:.4f}" for m, e in zip(found.mean(axis=0), error, strict=True)]
        yield f"| {name}, {known} of {len(data.prices)} | {draws} | {' | '.join(cells)} |"
