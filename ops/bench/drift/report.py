"""The table and the plot: drift and cost over the number of routers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.bench.drift.measuring import OURS, RATES, ROUTERS, Figures
from ops.bench.drift.traffic import Traffic

Found = Mapping[str, Mapping[int, Mapping[int, Figures]]]
"""By the way of exchange, the rate and the number of routers."""

# Legible on light and on dark pages.
_INK = "#6e7681"
_COLOURS = {
    "none": "#8c959f",
    "sum": "#d1242f",
    "average": "#8250df",
    "average, offset": "#bf8700",
    OURS: "#1a6fc9",
    "ours, 4 times a second": "#1a7f37",
}
_STYLE: dict[Any, Any] = {  # by names that matplotlib types as literals
    "svg.fonttype": "none",
    "svg.hashsalt": "drift",  # the same figures give the same file
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor"], _INK),
    **dict.fromkeys(["xtick.color", "ytick.color", "grid.color"], _INK),
    **dict.fromkeys(["axes.spines.top", "axes.spines.right"], False),
    **dict.fromkeys(["figure.facecolor", "axes.facecolor"], "none"),
    "grid.alpha": 0.3,
}
_SHOWN = (1, 4, 16, 64)
_HEAD = (
    "| requests/s | routers | exchange | last 1,000 | last 10,000 | all | at the end | "
    "before the shift, last 1,000 | recovered after, requests | cost, of one router's | "
    "of the optimum |"
)


def table(found: Found, others: Mapping[str, Mapping[int, Figures]], routers: int) -> str:
    """Figures as Markdown, of some numbers of routers.

    Args:
        found: see `Found`.
        others: of ours under other conditions, by rate.
        routers: how many there were in `others`.
    """
    lines = [_HEAD, "|---" * 11 + "|"]
    for rate in RATES:
        alone = found[OURS][rate][1]
        lines += [_row(rate, n, OURS, found[OURS][rate][n], alone) for n in _SHOWN]
        for way, by_rate in found.items():
            if way != OURS:
                lines += [_row(rate, n, way, by_rate[rate][n], alone) for n in (4, 64)]
        for name, of in others.items():
            lines.append(_row(rate, routers, f"{OURS}, {name}", of[rate], alone))
    return "\n".join([*lines, ""])


def _row(rate: int, routers: int, way: str, mine: Figures, alone: Figures) -> str:
    recovery = "never" if mine.recovery is None else f"{mine.recovery:,}"
    return (
        f"| {rate:,} | {routers} | {way} | {mine.last_1000:.3f} | {mine.last_10000:.4f} | "
        f"{mine.overall:.4f} | {mine.end:+.4f} | {mine.steady:.3f} | {recovery} | "
        f"{mine.cost / alone.cost:.3f} | {mine.over_optimum:.3f} |"
    )


def plot(traffic: Traffic, found: Found, file: Path) -> None:
    """Plots the drift of 10,000 requests and the cost over the number of routers."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    pyplot.rcParams.update(_STYLE)
    figure, panels = pyplot.subplots(2, 2, figsize=(9.6, 6.2), layout="constrained", sharex=True)
    for column, rate in enumerate(RATES):
        drift, cost = panels[:, column]
        for way, by_rate in found.items():
            mine = by_rate[rate]
            style: dict[str, Any] = {
                "label": way,
                "color": _COLOURS[way],
                "linewidth": 2.6 if way == OURS else 1.4,
                "marker": ".",
                "zorder": 3 if way == OURS else 2,
            }
            drift.plot(ROUTERS, [mine[n].last_10000 for n in ROUTERS], **style)
            cost.plot(ROUTERS, [mine[n].over_optimum for n in ROUTERS], **style)
        drift.set(title=f"{rate:,} requests/s", yscale="log", ylim=(0.001, 0.2))
        cost.set(xlabel="routers", xscale="log", yscale="log", ylim=(1, 40))
        for axes, ticks in (
            (drift, (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)),
            (cost, (1, 2, 5, 10, 20, 40)),
        ):
            axes.grid()
            axes.yaxis.set_major_locator(FixedLocator(ticks))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        cost.xaxis.set_major_locator(FixedLocator(ROUTERS))
        cost.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        cost.xaxis.set_minor_formatter(NullFormatter())
        cost.xaxis.set_minor_locator(NullLocator())
    panels[0, 0].set_ylabel("largest drift of 10,000 requests")
    panels[1, 0].set_ylabel("cost, of the optimum")
    figure.suptitle(f"{traffic.name}, mean {traffic.requirement:g} wanted, harder half way")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=9, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
