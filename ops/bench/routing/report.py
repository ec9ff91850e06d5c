"""The goals, and the plot and table of each file of the data."""

from pathlib import Path
from typing import Any

import numpy as np

from ops.bench.routing.curves import CLOSE, hull
from ops.bench.routing.data import Data
from serve.routing.arrays import Floats

GOALS = {  # for the five folds
    "zeroeval": {"aiq": 0.823, "cr": 0.32, "cost_at_aios": 0.10},
    "mmlu_pro": {"aiq": 0.692, "cr": 0.29, "cost_at_aios": 0.40},
}
PROBING_GOALS = {  # likewise, of the cascade
    "zeroeval": {"aiq": 0.836, "cr": 0.24, "parity": 0.42},
    "mmlu_pro": {"aiq": 0.698, "cr": 0.26},
}
MISS_GOAL, ONLINE_GOAL = 0.02, 1.02


# Legible on light and on dark pages.
INK = "#6e7681"
COLOURS = {
    "random mix of single models": "#8c959f",
    "AIOS's rule": "#d1242f",
    "128 neighbours, one multiplier": "#1a7f37",
    "oracle": "#bf8700",
    "smart's neighbours alone": "#8250df",
    "smart": "#1a6fc9",
    "cascade": "#bf3989",
}
STYLE: dict[Any, Any] = {  # by names that matplotlib types as literals
    "svg.fonttype": "none",
    "svg.hashsalt": "curves",  # the same curves give the same file
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor"], INK),
    **dict.fromkeys(["xtick.color", "ytick.color", "grid.color"], INK),
    **dict.fromkeys(["axes.spines.top", "axes.spines.right"], False),
    **dict.fromkeys(["figure.facecolor", "axes.facecolor"], "none"),
    "grid.alpha": 0.3,
}
MOST_POINTS = 400  # of a line


def plot(data: Data, curves: dict[str, Floats], file: Path) -> None:
    """Plots quality over cost for all rules: in full, and the range that AIQ and CR cover."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    pyplot.rcParams.update(STYLE)
    alone = curves["random mix of single models"]
    best = alone[alone[:, 1].argmax()]
    figure, (whole, part) = pyplot.subplots(1, 2, figsize=(9.6, 4.3), layout="constrained")
    for axes, scale in ((whole, 1e3), (part, 1 / best[0])):
        for name, points in curves.items():
            line, ours = hull(points), name == "smart"
            line = line[np.linspace(0, len(line) - 1, min(len(line), MOST_POINTS), dtype=int)]
            axes.plot(
                line[:, 0] * scale,
                line[:, 1],
                label=name,
                color=COLOURS[name],
                linestyle="--" if name == "smart's neighbours alone" else "-",
                linewidth=2.6 if ours else 1.4,
                zorder=3 if ours else 2,
            )
        axes.plot(
            alone[:, 0] * scale, alone[:, 1], ".", color=INK, markersize=5, label="single models"
        )
        axes.grid()
    whole.set(
        xscale="log", xlabel="cost of 1,000 queries, USD", ylabel="mean quality", title="all costs"
    )
    whole.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    whole.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost:g}"))
    whole.xaxis.set_minor_formatter(NullFormatter())
    part.axhline(best[1] - CLOSE, color=INK, linestyle=":", label="best single model − .02")
    part.set(
        xlim=(0, 1.05),
        ylim=(best[1] - 4 * CLOSE, best[1] + 1.5 * CLOSE),
        xlabel="cost, relative to the best single model",
        title="up to the best single model",
    )
    figure.suptitle(f"{data.name}: {len(data.ids):,} queries, {len(data.prices)} models, five-fold")
    handles, names = part.get_legend_handles_labels()
    figure.legend(handles, names, fontsize=9, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def table(name: str, figures: dict[str, Any], goals: dict[str, float]) -> str:
    """The figures of a run as Markdown."""
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
        if rule in errors:
            error = errors[rule]
            cells = f"{cells[0]} ± {error['aiq']:.4f}", f"{cells[1]} ± {error['cr']:.3f}"
        lines.append(f"| {rule} | {cells[0]} | {cells[1]} |")
    limit = f"≤ {goals['cost_at_aios']:.2f}×" if goals else ""
    held, near = f"≤ {MISS_GOAL}", f"≤ {ONLINE_GOAL}×"
    lines += ["", "| smart | measured | goal |", "|---|---|---|"]
    lines += [
        f"| {what} | {measured} | {goal} |"
        for what, measured, goal in (
            ("cost at the quality of AIOS's default", f"{figures['cost_at_aios']:.3f}×", limit),
            ("quality at that cost", f"{figures['quality_at_aios_cost']:+.4f}", ""),
            ("largest miss of ten requirements, batch", f"{figures['miss_max']:.4f}", held),
            ("mean miss, batch", f"{figures['miss_mean']:.4f}", held),
            ("largest miss, online", f"{figures['online_miss_max']:.4f}", held),
            ("mean miss, online", f"{figures['online_miss_mean']:.4f}", held),
            ("standard error of a mean quality", f"{figures['mean_standard_error']:.4f}", ""),
            ("online over batch, mean", f"{figures['online_over_batch_mean']:.4f}×", near),
            ("online over batch, largest", f"{figures['online_over_batch_max']:.4f}×", near),
            ("online over batch, paid", f"{figures['online_over_batch_realised']:.4f}×", ""),
            ("squared error of predicted quality", f"{figures['squared_error']:.4f}", ""),
            ("the same, neighbours alone", f"{figures['squared_error_neighbours']:.4f}", ""),
            ("a fit on one core", f"{figures['fit_seconds']:.1f} s", ""),
        )
    ]
    if "cascade" in figures["curves"]:
        lines += ["", *_probing(figures)]
    if "served" in figures:
        lines += ["", *_served(figures["served"])]
    return "\n".join([*lines, ""])


def _served(rows: list[dict[str, float]]) -> list[str]:
    """What the server held for each requirement, and what probes saved."""
    lines = [
        "| required | smart held | cascade held | cascade's cost, of smart's | probed |",
        "|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row['requirement']:.3f} | {row['smart_quality']:.3f} | {row['quality']:.3f} "
        f"| {row['cost_over_smart']:.2f} | {row['probed']:.2f} |"
        for row in rows
    ]


def _probing(figures: dict[str, Any]) -> list[str]:
    """The cost of the best single model's quality with and without probes."""
    lines = ["| cost of the best single model's quality | of its cost |", "|---|---|"]
    for rule, error in figures["standard_errors"].items():
        cost = f"{figures['curves'][rule]['parity']:.3f}".replace("inf", "never")
        lines.append(f"| {rule} | {cost} ± {error['parity']:.3f} |")
    share = f"{figures['probed_at_cr']:.2f}"
    return [*lines, f"| share of queries probed, at two points less | {share} |"]
