"""`python -m ops.bench.poisoning`."""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deployments.store.evidence import Integers, Snapshot
from deployments.store.memory.snapshots import SnapshotEvidence
from ops.bench import poisoning
from ops.bench.routing.curves import curve, singles, summary
from ops.bench.routing.data import DATA, Data, five_folds, load
from serve.routing.arrays import Booleans
from serve.routing.forecast.fitting import refit
from serve.routing.forecast.predictor import price_prior
from serve.smart.bound import KeyBound

KEYS = 100
FILES = "zeroeval", "mmlu_pro"
_BLOCK = 256  # queries at a time; bounds the memory for neighbours' outcomes


@dataclass(frozen=True)
class Case:
    """Who scores what.

    Attributes:
        traffic: what the first key asks, as a multiple of what the others do.
        lies: whether it gives false scores.
        bounded: whether the bound holds.
        uneven: whether traffic differs between keys: the k-th asks in proportion to 1 / k.
    """

    traffic: float = 1.0
    lies: bool = True
    bounded: bool = True
    uneven: bool = False


CASES = {
    "1 % of keys, their share of the traffic": Case(),
    "1 % of keys, 20 times their share": Case(traffic=20.0),
    "the same without the bound": Case(traffic=20.0, bounded=False),
    "nobody lies, even traffic": Case(lies=False),
    "nobody lies, uneven traffic": Case(lies=False, uneven=True),
}


def scored(case: Case, queries: int, random: np.random.Generator) -> tuple[Booleans, Booleans]:
    """(n,) which queries' scores are learned, and which of all are the first key's."""
    share = 1 / np.arange(1, KEYS + 1) if case.uneven else np.ones(KEYS)
    share[0] *= case.traffic
    key = random.choice(KEYS, queries, p=share / share.sum())
    learned = np.ones(queries, np.bool_)
    bound = KeyBound()
    for row, name in enumerate(key.astype(str)):
        learned[row] = not case.bounded or bound.admits(name)
        if learned[row]:
            bound.count(name)
    return learned, key == 0


def given(case: Case, snapshot: Snapshot, random: np.random.Generator) -> Snapshot:
    """The snapshot with the scores of this case."""
    order = random.permutation(len(snapshot))
    learned, firsts = (rows[np.argsort(order)] for rows in scored(case, len(snapshot), random))
    quality = snapshot.quality.copy()
    if case.lies:
        mean = quality.mean(axis=0)
        quality[firsts] = mean <= np.median(mean)
    quality[~learned] = np.nan
    return replace(snapshot, quality=quality)


def aiq(data: Data, snapshots: Sequence[Snapshot]) -> float:
    """AIQ of routing each fold by what is fitted on its snapshot."""
    quality, cost = np.zeros(data.score.shape), np.zeros(data.score.shape)
    prior, rows = price_prior(data.prices), np.arange(len(data.ids))
    for snapshot, (_, test) in zip(snapshots, five_folds(data), strict=True):
        predictor, evidence = refit(snapshot, prior).predictor, SnapshotEvidence(snapshot)
        k = predictor.smoothing.n_similar(len(evidence), 1)
        for part in np.array_split(test, len(test) // _BLOCK + 1):
            found, texts = (
                evidence.neighbours(data.embeddings[part], k),
                [data.queries[row] for row in part],
            )
            guess = predictor.predict(texts, data.embeddings[part], found, evidence.means())
            quality[part] = guess.quality
            cost[part] = data.predicted_cost(part, guess.output_tokens)
    return summary(curve(data, rows, quality, cost), singles(data, rows))["aiq"]


def moved(data: Data, case: Case, seed: int, honest: float) -> dict[str, float]:
    """What a case does to AIQ, and the share of the scores that is not learned."""
    folds: list[Integers] = [train for train, _ in five_folds(data)]
    snapshots = [
        given(case, data.snapshot(train), np.random.default_rng([seed, number]))
        for number, train in enumerate(folds)
    ]
    lost = np.mean([np.isnan(snapshot.quality).mean() for snapshot in snapshots])
    return {"aiq": aiq(data, snapshots) - honest, "lost": float(lost)}


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / len(values) ** 0.5)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.bench.poisoning", description=poisoning.__doc__
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ROUTING_DATA", DATA)))
    parser.add_argument("--embeddings", type=Path, default=Path("build/bench-routing/embeddings"))
    parser.add_argument("--seeds", type=int, default=3, help="ways to hand out, at least 2")
    args = parser.parse_args()
    results: dict[str, dict[str, dict[str, tuple[float, float]]]] = {}
    print("| | AIQ less that of honest scores | scores not learned |\n|---|---|---|")
    for name in FILES:
        data = load(name, args.data, args.embeddings)
        honest = aiq(data, [data.snapshot(train) for train, _ in five_folds(data)])
        results[name] = {}
        for label, case in CASES.items():
            found = [moved(data, case, seed, honest) for seed in range(args.seeds)]
            figures = {key: _mean_and_error([one[key] for one in found]) for key in found[0]}
            results[name][label] = figures
            (change, error), (lost, _) = figures["aiq"], figures["lost"]
            print(f"| {name}: {label} | {change:+.4f} ± {error:.4f} | {lost:.1%} |", flush=True)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
