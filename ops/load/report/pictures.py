"""The plots as PNG files, for pages and messages that can't show the report itself."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ops.load.report.plots import LINES, Plot, Values

Stages = Sequence[Mapping[str, Any]]

_COLOURS = ("#1a6fc9", "#b45309", "#1a7f37", "#b3222c", "#7d3fc0", "#57606a")  # as report.css
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
    "text.parse_math": False,  # a model's name may contain dollars
}
_INCHES = (9.6, 1.75)
_PIXELS = 2.0
"""The page's pixels for the width of a line, in which matplotlib counts dashes."""
_LETTERS = 32
_ROOM = 0.04
"""Shorter stages, as a share of the run, aren't named."""
_MOST = 24
"""Plots in a picture: more would make it too tall to look at."""


def draw(plots: Sequence[Plot], series: Mapping[str, Any], stages: Stages, file: Path) -> None:
    """Draws plots below each other, on one time axis.

    Args:
        series: over whose `at_s` the plots are, with `step_s` and `missing`, which is hatched.
        stages: with `name`, `start_s` and `end_s`; every other one is shaded.
        file: the PNG.
    """
    import matplotlib
    from matplotlib.figure import Figure

    shown = plots[:_MOST]
    end = series["at_s"][-1] + series["step_s"]
    with matplotlib.rc_context(_STYLE):
        width, height = _INCHES
        figure = Figure(figsize=(width, height * len(shown)), layout="constrained")
        panels = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
        for axes, plot in zip(panels, shown, strict=True):
            _panel(axes, plot, series["at_s"])
            for stage in stages[1::2]:
                axes.axvspan(stage["start_s"], stage["end_s"], color="#57606a", alpha=0.08, lw=0)
            for start, until in series["missing"] if plot.sampled else ():
                axes.axvspan(start, until, fill=False, hatch="////", ec="#d4a72c", lw=0)
        _name(panels[0], stages, end)
        panels[-1].set(xlabel="seconds since the beginning", xlim=(0, end))
        figure.savefig(file, dpi=110)


def _panel(axes: Any, plot: Plot, at_s: Sequence[float]) -> None:
    for line in plot.lines:
        values = [float("nan") if value is None else value for value in line.values]
        axes.plot(
            at_s,
            values,
            label=_short(line.label),
            color=_COLOURS[line.colour],
            linestyle=(0, [dash / _PIXELS for dash in LINES[line.line]] or None),
            drawstyle="steps-post" if line.stepped else "default",
            marker=".",
            markersize=3,
            markevery=_alone(line.values),
        )
    axes.set(title=_short(plot.title), ylabel=plot.unit)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)


def _alone(values: Values) -> list[int]:
    """The indexes of values between gaps, which no line shows."""
    around = [None, *values, None]
    return [
        index
        for index, value in enumerate(values)
        if value is not None and around[index] is None and around[index + 2] is None
    ]


def _name(axes: Any, stages: Stages, end: float) -> None:
    """Names the stages that have room for it."""
    for index, stage in enumerate(stages):
        if stage["start_s"] < end and stage["end_s"] - stage["start_s"] > _ROOM * end:
            axes.annotate(
                _short(stage["name"]),
                (stage["start_s"], 1),
                xycoords=("data", "axes fraction"),
                xytext=(2, -2 - 9 * (index % 2)),  # neighbours in two rows, so that both are read
                textcoords="offset points",
                va="top",
                fontsize=7,
                color="#57606a",
                in_layout=False,
            )


def _short(name: str) -> str:
    """A name that may come from a server, without what it would spoil: matplotlib hides labels that
    begin with an underscore, and a long one would leave the plot no room."""
    name = name.lstrip("_")
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"
