"""Quality against cost of smart routing on recorded outcomes, beside other rules.

    python -m ops.bench.routing [--data FOLDER] [--out FOLDER]

For each file of the data: fitted on `train` and reported on `val`, and five-fold (fold is
sha256(id) % 5). Writes a plot for each file and its tables, and ends with one line of JSON. The
folder of the data may also be given by the environment variable ROUTING_DATA.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.embedding.encoder import Encoder
from deployments.store.evidence import Floats32, Integers, Snapshot
from deployments.store.memory.nearest import nearest
from deployments.store.memory.snapshots import SnapshotEvidence
from serve.routing.arrays import Floats
from serve.routing.forecast.learned import refit
from serve.routing.forecast.predictor import NeighbourPredictor, default_n_similar, price_prior
from serve.routing.optimise.batch import assign
from serve.routing.optimise.online import Policy
from serve.routing.prices import Price, costs

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "routing-data"
FOLDS = 5
AIOS_SIMILAR, AIOS_REQUIREMENT = 16, 0.7  # AIOS's defaults
MULTIPLIERS = np.concatenate([[0.0], np.geomspace(1e-6, 1e1, 300)])
CLOSE = 0.02  # how far under the best single model CR looks
RESAMPLES = 200
GOALS = {  # for the five folds
    "zeroeval": {"aiq": 0.823, "cr": 0.32, "cost_at_aios": 0.10},
    "mmlu_pro": {"aiq": 0.692, "cr": 0.29, "cost_at_aios": 0.40},
}
MISS_GOAL, ONLINE_GOAL = 0.02, 1.02


@dataclass(frozen=True)
class Data:
    """Recorded outcomes of m models on n queries; arrays are (n, m) but for `input_tokens` (n,)."""

    name: str
    ids: list[str]
    train: npt.NDArray[np.bool_]
    queries: list[str]
    embeddings: Floats32
    input_tokens: Floats
    score: Floats
    output_tokens: Floats
    cost: Floats
    prices: list[Price]

    def snapshot(self, rows: Integers) -> Snapshot:
        """The history made of these rows."""
        return Snapshot(
            [self.queries[row] for row in rows],
            self.embeddings[rows],
            self.score[rows].astype(np.float32),
            self.output_tokens[rows].astype(np.float32),
            np.ones((len(rows), len(self.prices)), np.float32),
        )

    def predicted_cost(self, rows: Integers, output_tokens: Floats) -> Floats:
        """USD, (rows, m), of answers of these lengths."""
        return costs(self.prices, self.input_tokens[rows], output_tokens)


def load(name: str, folder: Path, cache: Path) -> Data:
    """Reads one file of the data, and embeds its queries unless they are in the cache."""
    from pyarrow.parquet import read_table

    table = read_table(folder / f"{name}.parquet").to_pydict()
    meta = json.loads((folder / f"{name}.meta.json").read_text())
    models = meta["models"]

    def column(kind: str) -> Floats:
        return np.array([table[f"{kind}__{model}"] for model in models], np.float64).T

    return Data(
        name,
        table["id"],
        np.array(table["split"]) == "train",
        table["query"],
        embedded(table["query"], cache),
        np.array(table["input_tokens"], np.float64),
        column("score"),
        column("out"),
        column("cost"),
        [Price(*(np.array(meta["prices_usd_per_mtok"][model]) / 1e6)) for model in models],
    )


def embedded(queries: list[str], cache: Path) -> Floats32:
    """Embeddings, kept in `cache` under the queries' digest."""
    digest = hashlib.sha256("\0".join(queries).encode()).hexdigest()[:16]
    file = cache / f"{digest}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, Encoder()(queries))
    loaded: Floats32 = np.load(file)
    return loaded


# --- what is compared: predictions of quality and cost for `test`, from `train` alone ---

Rule = Callable[[Data, Integers, Integers], tuple[Floats, Floats]]


def few_neighbours(k: int) -> Rule:
    """Unweighted means over the k nearest."""

    def rule(data: Data, train: Integers, test: Integers) -> tuple[Floats, Floats]:
        ids, _ = nearest(data.embeddings[test], data.embeddings[train], k)
        near = train[ids]
        tokens = data.output_tokens[near].mean(axis=1)
        return data.score[near].mean(axis=1), data.predicted_cost(test, tokens)

    return rule


def oracle(data: Data, train: Integers, test: Integers) -> tuple[Floats, Floats]:
    """The truth."""
    return data.score[test], data.cost[test]


def threshold_choice(quality: Floats, cost: Floats, requirement: float) -> Integers:
    """AIOS's rule: the cheapest model of at least this predicted quality, else the best one."""
    enough = quality >= requirement
    cheapest = np.where(enough, cost, np.inf).argmin(axis=1)
    return np.where(enough.any(axis=1), cheapest, quality.argmax(axis=1))


# --- measures ---


def hull(points: Floats) -> Floats:
    """The non-decreasing concave hull of (cost, quality) points (p, 2), by rising cost."""
    kept: list[tuple[float, float]] = []
    best = -np.inf
    for cost, quality in sorted(map(tuple, points)):
        if quality <= best:
            continue
        best = quality
        while len(kept) > 1 and (quality - kept[-2][1]) * (kept[-1][0] - kept[-2][0]) >= (
            kept[-1][1] - kept[-2][1]
        ) * (cost - kept[-2][0]):
            kept.pop()
        kept.append((cost, quality))
    return np.array(kept)


def quality_at(points: Floats, cost: Floats | float) -> Floats:
    """Height of the hull at these costs."""
    line = hull(points)
    height: Floats = np.interp(np.asarray(cost), line[:, 0], line[:, 1])
    return height


def cost_at(points: Floats, quality: float) -> float:
    """Least cost at which the hull has this quality; infinite where it never has."""
    line = hull(points)
    if quality > line[-1, 1]:
        return np.inf
    return float(np.interp(quality, line[:, 1], line[:, 0]))


def singles(data: Data, rows: Integers) -> Floats:
    """(cost, quality) of each model alone, in mean over the rows."""
    return np.column_stack([data.cost[rows].mean(axis=0), data.score[rows].mean(axis=0)])


def summary(points: Floats, alone: Floats) -> dict[str, float]:
    """AIQ: mean height of the hull between the costs of the cheapest single model and the best one.
    CR: cost of the best one's quality less two points, over the best one's cost."""
    best = alone[alone[:, 1].argmax()]
    span = np.linspace(alone[:, 0].min(), best[0], 20_001)
    return {
        "aiq": float(quality_at(points, span).mean()),
        "cr": cost_at(points, best[1] - CLOSE) / float(best[0]),
    }


def realised(data: Data, rows: Integers, choice: Integers) -> tuple[float, float]:
    """(cost, quality) that a choice really had, in mean."""
    return float(data.cost[rows, choice].mean()), float(data.score[rows, choice].mean())


def curve(data: Data, rows: Integers, quality: Floats, cost: Floats) -> Floats:
    """What each multiplier really costs and gives."""
    choices = [(cost - price * quality).argmin(axis=1) for price in MULTIPLIERS]
    return np.array([realised(data, rows, choice) for choice in choices])


def standard_errors(data: Data, rows: Integers, quality: Floats, cost: Floats) -> dict[str, float]:
    """Of the summary of `curve`, by drawing as many of its queries again, with replacement."""
    choices = np.array([(cost - price * quality).argmin(axis=1) for price in MULTIPLIERS]).T
    real = [np.take_along_axis(truth[rows], choices, 1) for truth in (data.cost, data.score)]
    even = np.full(len(rows), 1 / len(rows))
    found = []
    for share in np.random.default_rng(0).multinomial(len(rows), even, RESAMPLES) / len(rows):
        points = np.column_stack([share @ part for part in real])
        alone = np.column_stack([share @ data.cost[rows], share @ data.score[rows]])
        found.append(summary(points, alone))
    return {
        key: float(np.std([one[key] for one in found if np.isfinite(one[key])]))
        for key in ("aiq", "cr")
    }


# --- runs ---

Split = tuple[Integers, Integers]


def five_folds(data: Data) -> list[Split]:
    """(train, test) rows of each fold."""
    fold = np.array([int(hashlib.sha256(i.encode()).hexdigest(), 16) % FOLDS for i in data.ids])
    return [(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(FOLDS)]


@dataclass(frozen=True)
class Ours:
    """Smart routing's predictions, and its choices for each requirement, batch and online.

    `neighbours` is the quality without the networks; `batch` and `online` are (requirements, rows);
    `seconds` is the fits' time on a processor.
    """

    quality: Floats
    neighbours: Floats
    cost: Floats
    batch: Integers
    online: Integers
    accepted: bool
    seconds: float


def smart(data: Data, splits: list[Split], requirements: Floats) -> Ours:
    """Fits on each split's train rows and decides its test rows."""
    shape = data.score.shape
    quality, near, cost = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    batch = np.zeros((len(requirements), shape[0]), np.int64)
    online = np.zeros_like(batch)
    everyone = np.ones(shape[1], np.bool_)
    seconds, accepted = 0.0, True
    for train, test in splits:
        began = time.process_time()
        snapshot, prior = data.snapshot(train), price_prior(data.prices)
        fitted = refit(snapshot, prior)
        seconds += time.process_time() - began
        accepted &= fitted.accepted
        evidence, k = SnapshotEvidence(snapshot), default_n_similar(len(snapshot))
        for rows in np.array_split(test, len(test) // 256 + 1):
            found = evidence.neighbours(data.embeddings[rows], k)
            texts, embeddings = [data.queries[row] for row in rows], data.embeddings[rows]
            guess = fitted.predictor.predict(texts, embeddings, found, evidence.means())
            plain = NeighbourPredictor(prior).predict(texts, embeddings, found, evidence.means())
            quality[rows], near[rows] = guess.quality, plain.quality
            cost[rows] = data.predicted_cost(rows, guess.output_tokens)
        past_tokens = np.array([len(query) / 4 for query in fitted.queries])
        past_cost = costs(data.prices, past_tokens, fitted.backtest.output_tokens)
        order = np.random.default_rng(0).permutation(test)
        for number, requirement in enumerate(requirements):
            optimism = fitted.backtest.optimism(past_cost, requirement, np.arange(shape[1]))
            aim = min(max(requirement + optimism, 0.0), 1.0)
            batch[number, test] = assign(quality[test], cost[test], aim).choice
            policy = Policy.started(requirement, fitted.backtest.quality, past_cost, optimism)
            for row in order:
                ranked, policy = policy.decide(quality[row], cost[row], everyone)
                online[number, row] = ranked[0]
    return Ours(quality, near, cost, batch, online, accepted, seconds)


def pooled(data: Data, splits: list[Split], rule: Rule) -> tuple[Floats, Floats]:
    """A rule's predictions for all test rows."""
    quality, cost = np.zeros(data.score.shape), np.zeros(data.score.shape)
    for train, test in splits:
        quality[test], cost[test] = rule(data, train, test)
    return quality, cost


def measure(data: Data, splits: list[Split]) -> tuple[dict[str, Any], dict[str, Floats]]:
    """All figures of one file and one way to split it, and the curves behind them."""
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
    curves["smart"] = curve(data, rows, ours.quality[rows], ours.cost[rows])

    batch = np.array([realised(data, rows, choice[rows]) for choice in ours.batch])
    online = np.array([realised(data, rows, choice[rows]) for choice in ours.online])
    planned = [
        (take_mean(ours.cost, rows, late) / take_mean(ours.cost, rows, at_once))
        for late, at_once in zip(ours.online, ours.batch, strict=True)
    ]
    miss, online_miss = batch[:, 1] - requirements, online[:, 1] - requirements
    figures: dict[str, Any] = {
        "rows": len(rows),
        "curves": {name: summary(points, alone) for name, points in curves.items()},
        "standard_errors": standard_errors(data, rows, ours.quality[rows], ours.cost[rows]),
        "squared_error": float(((ours.quality - data.score)[rows] ** 2).mean()),
        "squared_error_neighbours": float(((ours.neighbours - data.score)[rows] ** 2).mean()),
        "cost_at_aios": cost_at(curves["smart"], aios[1]) / aios[0],
        "quality_at_aios_cost": float(quality_at(curves["smart"], aios[0])) - aios[1],
        "miss_max": float(np.abs(miss).max()),
        "miss_mean": float(np.abs(miss).mean()),
        "online_miss_max": float(np.abs(online_miss).max()),
        "online_miss_mean": float(np.abs(online_miss).mean()),
        "mean_standard_error": float(data.score[rows].std(axis=0).mean() / len(rows) ** 0.5),
        "online_over_batch_mean": float(np.mean(planned)),
        "online_over_batch_max": float(np.max(planned)),
        "online_over_batch_realised": float((online[:, 0] / batch[:, 0]).mean()),
        "fit_seconds": round(ours.seconds / len(splits), 2),
        "networks_accepted": ours.accepted,
    }
    return figures, curves


def take_mean(values: Floats, rows: Integers, choice: Integers) -> float:
    """Mean of what was chosen."""
    return float(values[rows, choice[rows]].mean())


def optimiser_seconds(queries: int = 100_000, models: int = 20) -> dict[str, float]:
    """Best of three times of one large batch, and its gap."""
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


def plot(data: Data, curves: dict[str, Floats], file: Path) -> None:
    """Quality over cost of all rules: all of it, and the part that AIQ and CR look at."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    alone = curves["random mix of single models"]
    best = alone[alone[:, 1].argmax()]
    figure, (whole, part) = pyplot.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    for axes, scale in ((whole, 1e3), (part, 1 / best[0])):
        for name, points in curves.items():
            line, ours = hull(points), name == "smart"
            width, order = (2.5, 3) if ours else (1.2, 2)
            axes.plot(line[:, 0] * scale, line[:, 1], label=name, linewidth=width, zorder=order)
        axes.plot(alone[:, 0] * scale, alone[:, 1], "k.", markersize=4, label="single models")
        axes.grid(alpha=0.3)
    whole.set(xscale="log", xlabel="cost of 1,000 queries, USD", ylabel="quality", title="all")
    whole.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    whole.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:g}"))
    whole.xaxis.set_minor_formatter(NullFormatter())
    part.axhline(best[1] - CLOSE, color="k", linestyle=":", label="best single model less .02")
    part.set(
        xlim=(0, 1.05),
        ylim=(best[1] - 4 * CLOSE, best[1] + 1.5 * CLOSE),
        xlabel="cost, in that of the best single model",
        title="up to the best single model",
    )
    figure.suptitle(f"{data.name}, five-fold: {len(data.ids):,} queries, {len(data.prices)} models")
    handles, names = part.get_legend_handles_labels()
    figure.legend(handles, names, fontsize=8, loc="outside lower center", ncols=4)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def table(name: str, figures: dict[str, Any], goals: dict[str, float]) -> str:
    """The figures of one run in Markdown."""
    errors = figures["standard_errors"]
    lines = [
        f"### {name}: {figures['rows']:,} queries",
        "",
        "| | AIQ | CR(−.02) |",
        "|---|---|---|",
    ]
    if goals:
        lines.append(f"| goal | ≥ {goals['aiq']} | ≤ {goals['cr']} |")
    for rule, value in figures["curves"].items():
        cells = f"{value['aiq']:.4f}", f"{value['cr']:.3f}".replace("inf", "never")
        if rule == "smart":
            cells = f"{cells[0]} ± {errors['aiq']:.4f}", f"{cells[1]} ± {errors['cr']:.3f}"
        lines.append(f"| {rule} | {cells[0]} | {cells[1]} |")
    limit = f"≤ {goals['cost_at_aios']:.2f}×" if goals else ""
    held, near = f"≤ {MISS_GOAL}", f"≤ {ONLINE_GOAL}×"
    lines += ["", "| smart | measured | goal |", "|---|---|---|"]
    lines += [
        f"| {what} | {measured} | {goal} |"
        for what, measured, goal in (
            ("cost at the quality of AIOS's default", f"{figures['cost_at_aios']:.3f}×", limit),
            ("quality at the cost of it", f"{figures['quality_at_aios_cost']:+.4f}", ""),
            ("largest miss of ten requirements, batch", f"{figures['miss_max']:.4f}", held),
            ("mean miss, batch", f"{figures['miss_mean']:.4f}", held),
            ("largest miss, online", f"{figures['online_miss_max']:.4f}", held),
            ("mean miss, online", f"{figures['online_miss_mean']:.4f}", held),
            ("standard error of a mean quality", f"{figures['mean_standard_error']:.4f}", ""),
            ("online over batch, mean", f"{figures['online_over_batch_mean']:.4f}×", near),
            ("online over batch, largest", f"{figures['online_over_batch_max']:.4f}×", near),
            ("online over batch, paid", f"{figures['online_over_batch_realised']:.4f}×", ""),
            ("squared error of predicted quality", f"{figures['squared_error']:.4f}", ""),
            ("that of neighbours alone", f"{figures['squared_error_neighbours']:.4f}", ""),
            ("a fit on one core", f"{figures['fit_seconds']:.1f} s", ""),
        )
    ]
    return "\n".join([*lines, ""])


def finite(value: Any) -> Any:
    """The same, with None where a number is infinite, which JSON doesn't know."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value


def main() -> None:
    """Runs all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ROUTING_DATA", DATA)))
    parser.add_argument("--out", type=Path, default=Path("build/bench-routing"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    tables = []
    for name, goals in GOALS.items():
        data = load(name, arguments.data, arguments.out / "embeddings")
        folds, held_out = (
            five_folds(data),
            (np.flatnonzero(data.train), np.flatnonzero(~data.train)),
        )
        figures, curves = measure(data, folds)
        plot(data, curves, arguments.out / f"{name}.png")
        results[f"{name}, five-fold"] = figures
        tables.append(table(f"{name}, five-fold", figures, goals))
        figures, _ = measure(data, [held_out])
        results[f"{name}, val"] = figures
        tables.append(table(f"{name}, fitted on train, measured on val", figures, {}))
    (arguments.out / "tables.md").write_text("\n".join(tables))
    print("\n".join(tables))
    print(json.dumps(finite({"goals": GOALS, "results": results, **optimiser_seconds()})))


if __name__ == "__main__":
    main()
