"""The plot: each contestant's requests a second in every case, and the latency that it adds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.bench.overhead.cases import CASES
from ops.bench.overhead.contestants import REFERENCE
from ops.bench.overhead.report import Figures

# Legible on light and on dark pages.
_INK = "#6e7681"
_COLOURS = {
    "litellm": "#d1242f",
    "litellm-2": "#e5737a",
    "ours": "#9cc3ea",
    "ours-throughput": "#5b9bd9",
    "ours-haproxy": "#1a6fc9",
    "ray-llm": "#e0b64d",
    "ray-llm-haproxy": "#bf8700",
}
_STYLE: dict[Any, Any] = {  # by names that matplotlib types as literals
    "svg.fonttype": "none",
    "svg.hashsalt": "overhead",  # the same figures give the same file
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor"], _INK),
    **dict.fromkeys(["xtick.color", "ytick.color", "grid.color"], _INK),
    **dict.fromkeys(["axes.spines.top", "axes.spines.right"], False),
    **dict.fromkeys(["figure.facecolor", "axes.facecolor"], "none"),
    "grid.alpha": 0.3,
}


def draw(found: Mapping[str, Mapping[str, Figures]], file: Path) -> None:
    """Draws the ratios to the reference as bars, with the goals; nothing without ratios."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    shown = {
        title: {name: mine for name, mine in contestants.items() if "ratio" in mine}
        for title, contestants in found.items()
        if CASES[title].connections is not None
    }
    shown = {title: contestants for title, contestants in shown.items() if contestants}
    if not shown:
        return
    pyplot.rcParams.update(_STYLE)
    figure, panels = pyplot.subplots(
        1, len(shown), figsize=(2.6 * len(shown), 3.6), layout="constrained", squeeze=False
    )
    named: dict[str, Any] = {}  # the legend's entries
    for axes, (title, contestants) in zip(panels[0], shown.items(), strict=True):
        case = CASES[title]
        for index, (name, mine) in enumerate(contestants.items()):
            spread = [[mine["ratio"] - mine["lowest"]], [mine["highest"] - mine["ratio"]]]
            colour = _COLOURS.get(name, _INK)
            axes.bar(index, mine["ratio"], color=colour, label=name, yerr=spread, ecolor=_INK)
        axes.axhline(case.goal, color=_INK, linestyle=":", label="goal")
        axes.set(title=case.title.replace(", ", ",\n"), xticks=[])
        axes.title.set_fontsize(9)
        axes.grid(axis="y")
        axes.set_ylabel("added latency" if case.by_latency else "requests/s", fontsize=9)
        named |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.suptitle(f"relative to {REFERENCE}", fontsize=10)
    figure.legend(
        list(named.values()),
        list(named),
        fontsize=9,
        loc="outside lower center",
        ncols=len(named),
        frameon=False,
    )
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
