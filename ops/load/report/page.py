"""The report as one HTML page, which loads nothing from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup

from ops.load.report.plots import LINES, MOST_DEPLOYMENTS, Plot, plots
from ops.load.report.tables import tables
from ops.load.report.text import UNKNOWN, percent, seconds, shown

_FOLDER = Path(__file__).parent
# The console bundles it, too.
_UPLOT = files("serve.http.console") / "static/vendor/uplot"


def page(report: Mapping[str, Any]) -> str:
    """The HTML of a report."""
    run, whole = report["run"], report["whole"]
    goodput = whole["goodput"]
    began = datetime.fromtimestamp(run["began_unix_s"], UTC)
    return render(
        "report.html.jinja",
        title=f"Load test of {subject(run)}",
        subtitle=f"{began:%Y-%m-%d %H:%M} UTC, {run['ended_s']:.0f} s{_versions(run)}",
        drawn=plots(report),
        series=report["series"],
        stages=report["stages"],
        report=report,
        met=None if goodput is None else goodput >= run["slo"]["share"],
        key_figures=key_figures(report),
        tables=tables(report),
        profile=yaml.safe_dump(run["profile"], sort_keys=False, allow_unicode=True),
    )


def subject(run: Mapping[str, Any]) -> str:
    """What was driven: the configuration that the tool served, or the URL."""
    served = run["served"] or {}
    return served.get("config") or run["url"] or "an application"


def _versions(run: Mapping[str, Any]) -> str:
    served = run["served"] or {}
    if not served.get("config"):
        return ""  # what answers at a URL may be of other versions than the tool
    named = (("version", "version"), ("Ray", "ray"), ("configuration’s SHA-256", "digest"))
    return "".join(f", {name} {served[key]}" for name, key in named if served.get(key))


def key_figures(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The figures to be seen first, as `name`, `value` and what they mean, `more`."""
    whole, slo = report["whole"], report["run"]["slo"]
    ratios = [mine["ratio"] for mine in report["deployments"].values() if mine["ratio"] is not None]
    found = [
        ("Goodput", percent(whole["goodput"]), f"goal {percent(slo['share'])}"),
        ("Failed", shown(whole["failed"]), f"of {whole['requests']:,} requests"),
        ("Offered", shown(whole["offered_per_s"]), "requests/s"),
        ("Served", shown(whole["served_per_s"]), "answers/s"),
        *(
            (title, seconds(whole[key]["p99"]), f"99 % of answers{_limit(slo[key])}")
            for title, key in (
                ("Time to first token", "ttft_s"),
                ("Time per output token", "tpot_s"),
                ("End to end", "e2e_s"),
            )
        ),
        ("Cost", _dollars(whole["usd_per_1000_requests"]), "per 1,000 requests"),
        ("Replica-seconds", _times(max(ratios, default=None)), "a clairvoyant scaler’s, at most"),
    ]
    return [{"name": name, "value": value, "more": more} for name, value, more in found]


def render(
    template: str,
    *,
    drawn: Sequence[Plot],
    series: Mapping[str, Any],
    stages: Sequence[Mapping[str, Any]],
    **values: Any,
) -> str:
    """A page with plots.

    Args:
        template: one that extends `layout.html.jinja`.
        drawn: the plots, over `series["at_s"]`.
        stages: with `name`, `start_s` and `end_s`.
        values: of the template.
    """
    data = {
        **{name: series[name] for name in ("at_s", "step_s", "missing")},
        "stages": [{key: stage[key] for key in ("name", "start_s", "end_s")} for stage in stages],
        "lines": LINES,
        "plots": [
            {"sampled": plot.sampled, "lines": [asdict(line) for line in plot.lines]}
            for plot in drawn
        ],
    }
    about = (
        f"All plots have one time axis, in steps of {series['step_s']} s. Every other stage is "
        "shaded; each is named where there is room, else numbered in order. Hatching: no "
        f"sample of /metrics. Of many deployments, the {MOST_DEPLOYMENTS} with the most "
        "replica-seconds are shown."
    )
    return (
        _templates()
        .get_template(template)
        .render(
            styles=_text(_UPLOT / "uPlot.min.css") + _file("report.css"),
            library=_library(),
            script=_file("report.js"),
            plots=drawn,
            data=data,
            about_plots=about,
            **values,
        )
    )


def _dollars(dollars: float | None) -> str:
    return UNKNOWN if dollars is None else f"${shown(dollars)}"


def _times(ratio: float | None) -> str:
    return UNKNOWN if ratio is None else f"{ratio:.2f} ×"


def _limit(limit: float | None) -> str:
    return "" if limit is None else f", limit {limit:g} s"


def _library() -> Markup:
    """uPlot, with its licence, which must be with each copy."""
    return Markup("/*\n{}*/\n{}").format(
        _text(_UPLOT / "LICENSE"), _text(_UPLOT / "uPlot.iife.min.js")
    )


def _file(name: str) -> Markup:
    """A file of ours, as it is."""
    return _text(_FOLDER / "static" / name)


def _text(path: Traversable) -> Markup:
    return Markup(path.read_text(encoding="utf-8"))


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["shown"] = shown
    return environment
