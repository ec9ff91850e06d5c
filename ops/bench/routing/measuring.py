"""All figures of a file of the data, and the time that the optimiser takes."""

import time
from typing import Any

import numpy as np

from deployments.store.evidence import Integers
from ops.bench.routing.curves import (
    cost_at,
    curve,
    mean_curve,
    outcomes,
    quality_at,
    realised,
    singles,
    standard_errors,
    summary,
)
from ops.bench.routing.data import Data, Split
from ops.bench.routing.probing import probing
from ops.bench.routing.rules import few_neighbours, oracle, pooled, threshold_choice
from ops.bench.routing.serving import served
from ops.bench.routing.smart import smart
from serve.routing.arrays import Floats
from serve.routing.optimise.batch import assign

AIOS_SIMILAR, AIOS_REQUIREMENT = 16, 0.7  # AIOS's defaults


def measure(data: Data, splits: list[Split]) -> tuple[dict[str, Any], dict[str, Floats]]:
    """All figures of a file and a way to split it, with the curves behind them."""
    rows = np.sort(np.concatenate([test for _, test in splits]))
    alone = singles(data, rows)
    low, high = alone[alone[:, 0].argmin(), 1], alone[:, 1].max()
    requirements = np.linspace(low, high, 11)[1:]
    curves = {"random mix of single models": alone}
    quality, cost = pooled(data, splits, few_neighbours(AIOS_SIMILAR))
    thresholds = np.linspace(0, 1.01, 102)
    choices = [threshold_choice(quality[rows], cost[rows], limit) for limit in thresholds]
    curves["AIOS's rule"] = np.array([realised(data, rows, choice) for choice in choices])
    aios = realised(data, rows, threshold_choice(quality[rows], cost[rows], AIOS_REQUIREMENT))
    for name, rule in (("128 neighbours, one multiplier", few_neighbours(128)), ("oracle", oracle)):
        quality, cost = pooled(data, splits, rule)
        curves[name] = curve(data, rows, quality[rows], cost[rows])
    ours = smart(data, splits, requirements)
    curves["smart's neighbours alone"] = curve(data, rows, ours.neighbours[rows], ours.cost[rows])
    plain = outcomes(data, rows, ours.quality[rows], ours.cost[rows])
    curves["smart"] = mean_curve(*plain)
    errors, probes = {"smart": standard_errors(data, rows, *plain)}, dict[str, Any]()
    if data.answers.size:
        probed = probing(data, splits, ours)
        real = probed.cost[rows], probed.score[rows]
        curves["cascade"] = mean_curve(*real)
        errors["cascade"] = standard_errors(data, rows, *real)
        probes = {"probed_at_cr": probed.share(rows, high), "probes": probed.pairs}
        if any(probed.pairs):
            probes["served"] = _served(data, splits, requirements)

    batch = np.array([realised(data, rows, choice[rows]) for choice in ours.batch])
    online = np.array([realised(data, rows, choice[rows]) for choice in ours.online])
    online_over_batch = [
        (
            _mean_of_choice(ours.cost, rows, online_choice)
            / _mean_of_choice(ours.cost, rows, batch_choice)
        )
        for online_choice, batch_choice in zip(ours.online, ours.batch, strict=True)
    ]
    miss, online_miss = batch[:, 1] - requirements, online[:, 1] - requirements
    figures: dict[str, Any] = {
        "rows": len(rows),
        "curves": {name: summary(points, alone) for name, points in curves.items()},
        "standard_errors": errors,
        **probes,
        "squared_error": float(((ours.quality - data.score)[rows] ** 2).mean()),
        "squared_error_neighbours": float(((ours.neighbours - data.score)[rows] ** 2).mean()),
        "cost_at_aios": cost_at(curves["smart"], aios[1]) / aios[0],
        "quality_at_aios_cost": float(quality_at(curves["smart"], aios[0])) - aios[1],
        "miss_max": float(np.abs(miss).max()),
        "miss_mean": float(np.abs(miss).mean()),
        "online_miss_max": float(np.abs(online_miss).max()),
        "online_miss_mean": float(np.abs(online_miss).mean()),
        "mean_standard_error": float(data.score[rows].std(axis=0).mean() / len(rows) ** 0.5),
        "online_over_batch_mean": float(np.mean(online_over_batch)),
        "online_over_batch_max": float(np.max(online_over_batch)),
        "online_over_batch_realised": float((online[:, 0] / batch[:, 0]).mean()),
        "fit_seconds": round(ours.seconds / len(splits), 2),
        "networks_accepted": ours.accepted,
    }
    return figures, curves


def _served(data: Data, splits: list[Split], requirements: Floats) -> list[dict[str, float]]:
    """What the server gives for each requirement, with and without probes."""
    without = served(data, splits, requirements, probes=False)
    with_probes = served(data, splits, requirements, probes=True)
    return [
        {
            "requirement": float(requirement),
            "smart_quality": float(without.quality[number]),
            "quality": float(with_probes.quality[number]),
            "cost_over_smart": float(with_probes.cost[number] / without.cost[number]),
            "probed": float(with_probes.probed[number]),
        }
        for number, requirement in enumerate(requirements)
    ]


def _mean_of_choice(values: Floats, rows: Integers, choice: Integers) -> float:
    """The mean value of the chosen models."""
    return float(values[rows, choice[rows]].mean())


def optimiser_seconds(queries: int = 100_000, models: int = 20) -> dict[str, float]:
    """The best of three times for a large batch, and its gap to the bound."""
    random = np.random.default_rng(0)
    cost = np.geomspace(1e-5, 1e-2, models) * np.exp(random.normal(0, 0.5, (queries, models)))
    skill = random.normal(size=(queries, 1)) + np.linspace(-1, 1.5, models)
    quality = 1 / (1 + np.exp(-skill - random.normal(0, 0.5, (queries, models))))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        answer = assign(quality, cost, 0.75)
        times.append(time.perf_counter() - began)
    return {"optimiser_seconds": round(min(times), 3), "optimiser_gap": answer.gap}
