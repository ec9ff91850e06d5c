"""The table and the plot: the share of the gain over the number of scored answers."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ops.bench.exploring.fleets import Newcomer
from ops.bench.exploring.learning import AT, GOAL, SCORED, Curve, median, shares
from ops.bench.exploring.streaming import Stream
from ops.bench.routing.report import COLOURS, INK, STYLE

_COLOURS = {"zeroeval": COLOURS["cascade"], "mmlu_pro": COLOURS["smart"]}


def table(found: Mapping[str, list[Curve]]) -> str:
    """The median share at each number of scored answers, as Markdown."""
    head = " | ".join(f"{k:,}" for k in SCORED)
    lines = [
        f"| share of the gain, median of new models | new models | {head} | ≥ {GOAL} at {AT} |",
        "|---" * (len(SCORED) + 3) + "|",
    ]
    for name, curves in found.items():
        share = shares(curves)
        cells = (f"{m:.2f} ± {e:.2f}" for m, e in zip(*median(share), strict=True))
        reached = int((share[:, SCORED.index(AT)] >= GOAL).sum())
        lines.append(f"| {name} | {len(curves)} | {' | '.join(cells)} | {reached} |")
    return "\n".join([*lines, ""])


def stream_rows(newcomer: Newcomer, runs: Mapping[str, Stream]) -> list[str]:
    """One fleet's requests: what each run asked the new model, and what it cost."""
    lines = [
        f"| {newcomer.name}, model {newcomer.model} | to the new model | explored | "
        f"requests to {AT} scores | mean quality | cost, USD |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        asked = run.asked.cumsum()
        at = f"{int((asked < AT).sum()) + 1:,}" if asked[-1] >= AT else "never"
        lines.append(
            f"| {name} | {asked[-1]:,} | {run.explored.sum()} | {at} | "
            f"{run.score.mean():.3f} | {run.cost.sum():.3f} |"
        )
    return [*lines, ""]


def plot(found: Mapping[str, list[Curve]], file: Path) -> None:
    """Plots the medians with their standard errors, and each new model."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update(STYLE)
    figure, panels = pyplot.subplots(1, len(found), figsize=(9.6, 4.0), layout="constrained")
    at = np.arange(len(SCORED))
    for axes, (name, curves) in zip(np.atleast_1d(panels), found.items(), strict=True):
        share = shares(curves)
        middle, error = median(share)
        axes.plot(at, share.T, color=INK, linewidth=0.6, alpha=0.5)
        axes.errorbar(at, middle, error, color=_COLOURS[name], linewidth=2.6, label="median")
        axes.axhline(GOAL, color=INK, linestyle=":", label=f"goal: {GOAL}")
        axes.set(
            title=f"{name}: {len(curves)} new models",
            ylim=(-0.6, 1.4),
            xlabel="scored answers of the new model",
        )
        axes.set_xticks(at, [f"{k:,}" for k in SCORED])
        axes.grid()
        axes.legend(frameon=False, loc="lower right")
    np.atleast_1d(panels)[0].set_ylabel("share of the gain of its full history")
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
