"""`python -m ops.bench.replay`."""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from ops.bench import replay
from ops.bench.replay.traffic import KINDS, Traffic, traffic
from ops.bench.routing.data import DATA, load
from serve.routing.arrays import Floats, Integers
from serve.routing.counterfactual import Estimate, Log, estimate
from serve.routing.replay import Target

SETS = "zeroeval", "mmlu_pro"
Judged = tuple[float, float, float, float]
COLUMNS = "quality", "cost", "saving"
BEST = "always the best model"
_SEED = 2000  # of the first traffic; the method was developed on those before
_STEP = 0.05  # between the requirement that was held and the others


def measured(one: Traffic) -> dict[str, list[Judged]]:
    """By target, for quality, cost and saving: 1 if the interval covers the truth, half its width,
    the error (both relative to the cost, where it is one) and the share that was seen."""
    past = one.replay
    found: dict[str, list[Judged]] = {}
    for name, target in _targets(one).items():
        outcome = past.outcome(target)
        quality, cost = _truth(one, target)
        _, best = _truth(one, past.always(past.best))
        found[name] = [
            _judged(outcome.quality, quality, 1.0),
            _judged(outcome.cost, cost, cost),
            _judged(outcome.saving, 1 - cost / best, 1.0),
        ]
        if name == BEST:  # saves nothing, by definition
            found[name][2] = (np.nan, *found[name][2][1:])
    return found


def _targets(one: Traffic) -> dict[str, Target]:
    past, requirement = one.replay, one.requirement
    every = np.arange(one.score.shape[1])
    lower, higher = max(requirement - _STEP, 0.0), min(requirement + _STEP, 1.0)
    cheap = every[np.argsort(one.cost.mean(axis=0))][: len(every) // 2 + 1]
    return {
        "the same requirement": past.requirement(requirement, every),
        "less by .05": past.requirement(lower, every),
        "more by .05": past.requirement(higher, every),
        "the cheaper half of the models": past.requirement(requirement, cheap),
        BEST: past.always(past.best),
        "always the cheapest model": past.always(int(cheap[0])),
    }


def _truth(one: Traffic, target: Target) -> tuple[float, float]:
    wanted = target.wanted[: len(one.score)]
    return (
        float((wanted * one.score).sum(axis=1).mean()),
        float((wanted * one.cost).sum(axis=1).mean()),
    )


def _judged(found: Estimate, truth: float, scale: float) -> Judged:
    low, high = found.interval
    # What is known for certain has an interval of no width, and may differ by a rounding error.
    covers = low - 1e-9 * scale <= truth <= high + 1e-9 * scale
    return covers, (high - low) / 2 / scale, (found.mean - truth) / scale, found.seen


def seconds_of_a_million(requests: int = 1_000_000, models: int = 10) -> float:
    """How long it takes to estimate two targets from so many answers."""
    random = np.random.default_rng(0)
    predicted = random.random((requests, models))
    chosen: Integers = random.integers(models, size=requests)
    propensity: Floats = random.choice([0.1, 0.9, 1.0], requests)
    score = np.where(random.random(requests) < 0.5, random.random(requests), np.nan)
    began = time.perf_counter()
    log = Log(chosen, propensity, score, predicted, np.zeros((0, models)), 0.04)
    for target in range(2):
        wanted = np.zeros_like(predicted)
        wanted[np.arange(requests), (chosen + target) % models] = 1.0
        estimate(log, wanted)
    return round(time.perf_counter() - began, 2)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.replay", description=replay.__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ROUTING_DATA", DATA)))
    parser.add_argument("--out", type=Path, default=Path("build/bench-routing"))
    parser.add_argument("--traffics", type=int, default=100, help="of each kind")
    parser.add_argument("--only", choices=SETS, nargs="*", default=SETS)
    args = parser.parse_args()
    results: dict[str, dict[str, list[float | None]]] = {}
    for name in args.only:
        data = load(name, args.data, args.out / "embeddings")
        for kind, about in KINDS.items():
            runs = [
                measured(traffic(data, about, _SEED + number)) for number in range(args.traffics)
            ]
            title = f"{name}, {kind}"
            results[title] = {}
            print(f"\n| {title} | " + " | ".join(COLUMNS) + " | seen |\n|---|---|---|---|---|")
            for target in runs[0]:
                values = np.array([run[target] for run in runs], np.float64)
                covers, _, error, seen = values.mean(axis=0).T
                width = np.median(values[..., 1], axis=0)  # that of a share saved has no bound
                figures = [*covers, *width, *error, *seen]
                results[title][target] = [None if np.isnan(f) else float(f) for f in figures]
                cells = [
                    "" if np.isnan(c) else f"{c:.0%}, ± {100 * w:.1f}, {100 * e:+.1f}"
                    for c, w, e in zip(covers, width, error, strict=True)
                ]
                print(f"| {target} | " + " | ".join(cells) + f" | {seen[0]:.0%} |", flush=True)
            every = np.array([[run[target] for target in run] for run in runs], np.float64)[..., 0]
            by_run = np.nanmean(every, axis=1)
            spread = by_run.std(axis=0, ddof=1) / len(runs) ** 0.5
            both = zip(by_run.mean(axis=0), spread, strict=True)
            print("| all | " + " | ".join(f"{c:.1%} ± {s:.1%}" for c, s in both) + " | |")
    print(json.dumps({"coverage": results, "seconds_of_a_million": seconds_of_a_million()}))


if __name__ == "__main__":
    main()
