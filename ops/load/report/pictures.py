"""The plots as PNG files, for pages and messages that can't show the report itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ops.load.report.plots import Plot

_COLOURS = ("#1a6fc9", "#b45309", "#1a7f37", "#b3222c", "#7d3fc0", "#57606a")  # as report.css
_LINES = {"solid": "-", "dashed": "--", "dotted": ":", "dashdot": "-."}
_STYLE: dict[Any, Any] = {  # by names that matplotlib types as literals
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#57606a",
    "axes.grid": True,
    "grid.color": "#d0d7de",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
}
_INCHES = (9.6, 1.75)
_MOST = 24
"""Plots in a picture: more would make it too tall to look at."""


def draw(
    plots: Sequence[Plot],
    at_s: Sequence[float],
    stages: Sequence[dict[str, Any]],
    missing: Sequence[Sequence[float]],
    file: Path,
) -> None:
    """Draws the plots below each other, on one time axis.

    Args:
        at_s: where the steps of the plots' values begin.
        stages: with `name`, `start_s` and `end_s`; every other one is shaded.
        missing: seconds, from and to, for which nothing sampled is known; they are hatched.
        file: the PNG.
    """
    import matplotlib
    from matplotlib.figure import Figure

    shown = plots[:_MOST]
    with matplotlib.rc_context(_STYLE):
        width, height = _INCHES
        figure = Figure(figsize=(width, height * len(shown)), layout="constrained")
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, plot in zip(panels, shown, strict=True):
            _panel(axes, plot, at_s)
            for index, stage in enumerate(stages):
                if index % 2:
                    axes.axvspan(
                        stage["start_s"], stage["end_s"], color="#57606a", alpha=0.08, lw=0
                    )
            for start, end in missing if plot.sampled else ():
                axes.axvspan(start, end, fill=False, hatch="////", ec="#d4a72c", lw=0)
        for index, stage in enumerate(stages):
            panels[0].annotate(
                stage["name"],
                (stage["start_s"], 1),
                xycoords=("data", "axes fraction"),
                xytext=(
                    2,
                    -2 - 9 * (index % 2),
                ),  # neighbours in two rows, so that both can be read
                textcoords="offset points",
                va="top",
                fontsize=7,
                color="#57606a",
            )
        panels[-1].set_xlabel("seconds since the beginning")
        figure.savefig(file, dpi=110)


def _panel(axes: Any, plot: Plot, at_s: Sequence[float]) -> None:
    for line in plot.lines:
        values = [float("nan") if value is None else value for value in line.values]
        axes.plot(
            at_s,
            values,
            label=line.label,
            color=_COLOURS[line.colour],
            linestyle=_LINES[line.line],
            drawstyle="steps-post" if line.stepped else "default",
        )
    axes.set(title=plot.title, ylabel=plot.unit)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    axes.margins(x=0)
