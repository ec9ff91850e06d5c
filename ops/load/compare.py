"""Two reports of load tests, side by side.

    python -m ops.load.compare A B

Writes `compare.json` and `compare.html` into B's folder. B is judged by A.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ops.load.report import VERSION, MalformedRun
from ops.load.report.figures import rounded
from ops.load.report.page import render, subject
from ops.load.report.plots import Line, Plot, Values, shown_deployments
from ops.load.report.tables import Column, Table, bounded

Report = Mapping[str, Any]
Better = Literal["higher", "lower", None]

SAME = 0.02
"""Figures that differ by less than this share are called the same."""

_FIGURES: Mapping[str, tuple[str, Better]] = {
    "requests": ("requests", None),
    "goodput": ("goodput, share", "higher"),
    "offered_per_s": ("offered, requests/s", None),
    "served_per_s": ("served, answers/s", "higher"),
    "failed": ("failed requests", "lower"),
    "usd": ("cost, USD", None),
    "usd_per_1000_requests": ("cost of 1,000 requests, USD", "lower"),
    "quality": ("predicted quality", "higher"),
}
_TIMES = {
    "ttft_s": "time to first token",
    "tpot_s": "time per output token",
    "e2e_s": "end to end",
}
_SPENT = {
    "used_replica_s": "replica-seconds",
    "clairvoyant_replica_s": "clairvoyant’s replica-seconds",
    "ratio": "replica-seconds, of the clairvoyant’s",
}
_REACTIONS = {
    "wanted_s": "until more wanted, s",
    "running_s": "until more running, s",
    "down_wanted_s": "until fewer wanted, s",
    "down_running_s": "until fewer running, s",
    "back_s": "until running as before, s",
}


def compare(a: Path, b: Path) -> dict[str, Any]:
    """Writes the comparison of two run folders that have reports, into `b`.

    Returns:
        What `compare.json` says: `a`, `b` (their names), `a_of`, `b_of` (what each drove: the
        configuration or the URL), `notes`, and `figures`, each with `group`, `figure`, its values
        `a` and `b`, their `difference` (b − a) and `ratio` (b / a), and `b_is`: "better", "worse",
        "same", or None where neither can be said.

    Raises:
        MalformedRun: a folder has no `report.json` of this version.
    """
    first, second = _read(a), _read(b)
    names = (a.name, b.name) if a.name != b.name else (str(a), str(b))
    found = {
        **dict(zip("ab", names, strict=True)),
        "a_of": subject(first["run"]),
        "b_of": subject(second["run"]),
        "notes": list(_notes(first, second)),
        "figures": list(_figures(first, second)),
    }
    (b / "compare.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (b / "compare.html").write_text(_page(found, first, second), encoding="utf-8")
    return found


def _read(folder: Path) -> Report:
    file = folder / "report.json"
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        current = report["version"] == VERSION
    except (OSError, ValueError, TypeError, KeyError):
        current = False
    if not current:
        raise MalformedRun(
            f"{file} is no report of this version: write it by `python -m ops.load.report {folder}`"
        )
    return dict(report)


def _notes(a: Report, b: Report) -> Iterator[str]:
    for key, what in (("profile", "profiles"), ("slo", "limits of a good answer")):
        if a["run"][key] != b["run"][key]:
            yield f"The {what} of the two runs differ, so the figures aren’t of the same thing."
    served = [report["run"]["served"] or {} for report in (a, b)]
    config, other = (one.get("config") for one in served)
    if config and config == other and served[0]["digest"] != served[1]["digest"]:
        yield f"The content of {config} was changed between the two runs."
    for name, report in (("A", a), ("B", b)):
        for note in report["notes"]:
            yield f"{name}: {note}"


# --- figures ---


def _figures(a: Report, b: Report) -> Iterator[dict[str, Any]]:
    yield from _of_requests("whole run", a["whole"], b["whole"])
    for group, key, name in (("stage", "stages", "name"), ("model", "models", "model")):
        others = {other[name]: other for other in b[key]}
        for mine in a[key]:
            if other := others.get(mine[name]):
                yield from _of_requests(f"{group} {mine[name] or 'none'}", mine, other)
    for name, mine in a["deployments"].items():
        if not (other := b["deployments"].get(name)):
            continue
        for key, figure in _SPENT.items():
            better: Better = None if key == "clairvoyant_replica_s" else "lower"
            yield _figure(f"deployment {name}", figure, mine[key], other[key], better)
        for key, better in (("running", None), ("queued", "lower")):
            yield _figure(
                f"deployment {name}", f"most {key}", mine["most"][key], other["most"][key], better
            )
    yield from _of_reactions(a["reactions"], b["reactions"])


def _of_requests(group: str, a: Report, b: Report) -> Iterator[dict[str, Any]]:
    for key, (figure, better) in _FIGURES.items():
        yield _figure(group, figure, a[key], b[key], better)
    for key, figure in _TIMES.items():
        for percentile in a[key]:
            yield _figure(
                group, f"{figure} {percentile}, s", a[key][percentile], b[key][percentile], "lower"
            )


def _of_reactions(a: Sequence[Report], b: Sequence[Report]) -> Iterator[dict[str, Any]]:
    others = {reaction["stage"]: reaction for reaction in b}
    for mine in a:
        if not (other := others.get(mine["stage"])):
            continue
        group = f"rise at {mine['stage']}"
        pair = mine["slo_regained_s"], other["slo_regained_s"]
        yield _figure(group, "until the goal was held again, s", *pair, "lower")
        for name, was in mine["deployments"].items():
            now = other["deployments"].get(name, {})
            for key, figure in _REACTIONS.items():
                yield _figure(group, f"{name}: {figure}", was[key], now.get(key), "lower")


def _figure(
    group: str, figure: str, a: float | None, b: float | None, better: Better
) -> dict[str, Any]:
    found = {"group": group, "figure": figure, "a": a, "b": b}
    if a is None or b is None:
        return {**found, "difference": None, "ratio": None, "b_is": None}
    ratio = rounded(b / a) if a else None
    return {
        **found,
        "difference": rounded(b - a),
        "ratio": ratio,
        "b_is": _judged(a, b, better),
    }


def _judged(a: float, b: float, better: Better) -> str | None:
    if better is None:
        return None
    if abs(b - a) <= SAME * max(abs(a), abs(b)):
        return "same"
    return "better" if (b > a) == (better == "higher") else "worse"


# --- the page ---


def _page(found: Report, a: Report, b: Report) -> str:
    judged = Counter(figure["b_is"] for figure in found["figures"])
    count = (
        f"Of the figures that both have, B’s are better in {judged['better']}, worse in "
        f"{judged['worse']} and within {SAME:.0%} in {judged['same']}."
    )
    longest = max(a["series"], b["series"], key=lambda series: series["at_s"][-1])
    step = max(a["series"]["step_s"], b["series"]["step_s"])
    at_s = list(range(0, longest["at_s"][-1] + longest["step_s"], step))
    return render(
        "compare.html.jinja",
        title=f"{found['a']} and {found['b']}, compared",
        subtitle=f"A is {found['a']}, of {found['a_of']} (dashed); B is {found['b']}, of "
        f"{found['b_of']} (solid). Stages are B’s.",
        drawn=list(_plots(at_s, a, b)),
        series={
            "at_s": at_s,
            "step_s": step,
            "missing": [*a["series"]["missing"], *b["series"]["missing"]],
        },
        stages=b["stages"],
        verdicts=[("A", a["verdict"][0]), ("B", b["verdict"][0])],
        count=count,
        notes=found["notes"],
        tables=_tables(found["figures"]),
    )


def _tables(figures: Sequence[Report]) -> list[Table]:
    # The judgement before what is cut off on a narrow screen.
    columns = [
        *(Column("figure", True), Column("A"), Column("B"), Column("B is", True)),
        *(Column("difference"), Column("ratio")),
    ]
    keys = ("figure", "a", "b", "b_is", "difference", "ratio")
    groups = dict.fromkeys(figure["group"] for figure in figures)
    return [
        Table(
            title=group[:1].upper() + group[1:],
            caption=f"{group}: the difference is B − A, the ratio B / A.",
            columns=columns,
            rows=bounded(
                [
                    [figure[key] for key in keys]
                    for figure in figures
                    if figure["group"] == group
                    and (figure["a"] is not None or figure["b"] is not None)
                ]
            ),
        )
        for group in groups
    ]


def _plots(at_s: Sequence[float], a: Report, b: Report) -> Iterator[Plot]:
    both = (a["series"], b["series"])
    for key, title, unit in (
        ("offered_per_s", "Offered", "requests/s"),
        ("good_per_s", "Good", "requests/s"),
        ("ttft_p50_s", "Time to first token, p50", "s"),
        ("ttft_p99_s", "Time to first token, p99", "s"),
    ):
        yield Plot(title, unit, _pair(at_s, both, [series[key] for series in both]))
    for name in shown_deployments(b):
        if name not in a["series"]["deployments"]:
            continue
        for count, unit in (
            *(("wanted", "replicas"), ("running", "replicas")),
            *(("queued", "requests"), ("ongoing", "requests")),
        ):
            values = [series["deployments"][name][count] for series in both]
            lines = _pair(at_s, both, values, stepped=unit == "replicas")
            yield Plot(f"{name}: {count}", unit, lines, sampled=True)
    nodes = [series["nodes"] for series in both]
    yield Plot("Nodes", "nodes", _pair(at_s, both, nodes, stepped=True), sampled=True)
    if all(series["usd"] for series in both):
        yield Plot("Dollars spent", "USD", _pair(at_s, both, [series["usd"] for series in both]))


def _pair(
    at_s: Sequence[float],
    both: Sequence[Report],
    values: Sequence[Values],
    stepped: bool = False,
) -> list[Line]:
    """A's and B's values at these moments: of the step that a moment is in."""
    lines = []
    for series, mine, (label, colour, line) in zip(
        both, values, (("A", 1, "dashed"), ("B", 0, "solid")), strict=True
    ):
        indexes = [int(at // series["step_s"]) for at in at_s]
        there = [mine[index] if index < len(mine) else None for index in indexes]
        lines.append(Line(label, there, colour, line, stepped))
    return lines


def main() -> None:
    """Prints what differs in the whole run, and where the page is."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.load.compare", description="Compares the reports of two load tests."
    )
    parser.add_argument("a", type=Path, metavar="A", help="the run folder to compare with")
    parser.add_argument("b", type=Path, metavar="B", help="the run folder to judge")
    options = parser.parse_args()
    try:
        found = compare(options.a, options.b)
    except MalformedRun as error:
        sys.exit(str(error))
    print(*found["notes"], sep="\n")
    for figure in found["figures"]:
        if figure["group"] == "whole run" and figure["b_is"]:
            print(f"{figure['figure']}: {figure['a']} → {figure['b']}, {figure['b_is']}")
    print(options.b / "compare.html")


if __name__ == "__main__":
    main()
