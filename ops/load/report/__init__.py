"""The report of a load test: a run folder becomes figures, a page and pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ops.load.report import figures
from ops.load.report.clairvoyant import clairvoyant, slowed
from ops.load.report.page import page
from ops.load.report.pictures import draw
from ops.load.report.plots import latency, plots
from ops.load.report.reactions import reactions
from ops.load.report.reading import Counts, MalformedRun, Run, read
from ops.load.report.replica_seconds import replica_seconds
from ops.load.report.series import series
from ops.load.report.verdict import notes, verdict

__all__ = ["VERSION", "MalformedRun", "report", "write"]

VERSION = 2
"""Of what `report.json` contains."""

_LATENCIES = {
    "ttft_s": "Time to first token",
    "tpot_s": "Time per output token",
    "e2e_s": "End to end",
}


def write(folder: Path) -> dict[str, Any]:
    """Writes `report.json`, `report.html`, `timeline.png` and `latency.png` into a run folder.

    Returns:
        What `report.json` says; docs/load-report.md defines each figure.

    Raises:
        MalformedRun: the folder isn't one of a load test; says which file and line.
    """
    found = report(read(folder))
    # A section a line: short enough to look at, and to compare by lines.
    sections = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items())
    (folder / "report.json").write_text("{\n" + ",\n".join(sections) + "\n}\n", encoding="utf-8")
    (folder / "report.html").write_text(page(found), encoding="utf-8")
    times, stages, slo = found["series"], found["stages"], found["run"]["slo"]
    draw(plots(found), times, stages, folder / "timeline.png")
    latencies = [latency(times, slo, name, title) for name, title in _LATENCIES.items()]
    draw(latencies, times, stages, folder / "latency.png")
    return found


def report(run: Run) -> dict[str, Any]:
    """The figures of a run."""
    outline, best = run.outline, clairvoyant(run)
    slow = slowed(run, best)
    found: dict[str, Any] = {
        "version": VERSION,
        "run": {
            "url": outline.url,
            "served": outline.served and outline.served.model_dump(),
            "began_unix_s": outline.began,
            "seconds": outline.seconds,
            "ended_s": outline.ended,
            "interrupted": outline.interrupted,
            "sent_until_s": run.length_s,
            "slo": outline.slo.model_dump(),
            "profile": outline.profile,
        },
        "whole": figures.whole(run),
        "stages": figures.by_stage(run),
        "models": figures.by_model(run),
        "errors": figures.errors(run),
        "lateness_s": figures.lateness(run),
        "reactions": reactions(run),
        "deployments": {
            name: {"most": _most(run, name), **spent, "slowness": slow.get(name)}
            for name, spent in replica_seconds(run, best).items()
        },
        "series": series(run, best),
    }
    return {"verdict": verdict(found, outline.slo), "notes": notes(run, found), **found}


def _most(run: Run, name: str) -> Mapping[str, int | None]:
    """The highest of each count of a deployment."""
    counts = [sample.deployments[name] for sample in run.read if name in sample.deployments]
    return {
        key: max((n for c in counts if (n := getattr(c, key)) is not None), default=None)
        for key in Counts.__dataclass_fields__
    }
