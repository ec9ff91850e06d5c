"""The plots of a report, described once for the page and for the pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Values = Sequence[float | None]
LINES: Mapping[str, Sequence[int]] = {
    "solid": (),
    "dashed": (7, 4),
    "dotted": (2, 3),
    "dashdot": (9, 3, 2, 3),
    "long": (16, 5),
    "dashdotdot": (9, 3, 2, 3, 2, 3),
    "sparse": (2, 8),
}
"""The dashes of each style, drawn and left out in turn, in pixels."""
COLOURS = 6
MOST_DEPLOYMENTS = 20


@dataclass(frozen=True)
class Line:
    """A series over the steps of time.

    Attributes:
        colour: an index below `COLOURS`.
        line: one of `LINES`.
        stepped: the value holds until the next one.
    """

    label: str
    values: Values
    colour: int
    line: str = "solid"
    stepped: bool = False


@dataclass(frozen=True)
class Plot:
    """Some lines with one unit.

    Attributes:
        sampled: the lines come from samples, which may be missing.
    """

    title: str
    unit: str
    lines: Sequence[Line]
    sampled: bool = False

    @property
    def summary(self) -> str:
        """The plot in words, for those who can't see it."""
        parts = []
        for line in self.lines:
            known = [value for value in line.values if value is not None]
            parts.append(
                f"{line.label} from {min(known):.3g} to {max(known):.3g}"
                if known
                else f"{line.label} unknown"
            )
        return f"{self.title}, {self.unit}: {'; '.join(parts)}."


def plots(report: Mapping[str, Any]) -> list[Plot]:
    """The plots of one report, all over `report["series"]["at_s"]`. Of the deployments, the
    `MOST_DEPLOYMENTS` with the most replica-seconds."""
    return list(_plots(report))


def shown_deployments(report: Mapping[str, Any]) -> list[str]:
    """Those that have plots."""
    used = {name: mine["used_replica_s"] or 0 for name, mine in report["deployments"].items()}
    most = set(sorted(used, key=lambda name: -used[name])[:MOST_DEPLOYMENTS])
    return [name for name in used if name in most]


def _plots(report: Mapping[str, Any]) -> Iterator[Plot]:
    series, slo = report["series"], report["run"]["slo"]
    offered = Line("offered", series["offered_per_s"], 0, "dashed")
    served = Line("served", series["served_per_s"], 1)
    good = Line("good", series["good_per_s"], 2, "dotted")
    yield Plot("Requests", "requests/s", [offered, served, good])
    yield latency(series, slo, "ttft_s", "Time to first token")
    for name, title in (("tpot_s", "Time per output token"), ("e2e_s", "End to end")):
        if slo[name] is not None:
            yield latency(series, slo, name, title)
    for name in shown_deployments(report):
        yield from deployment(name, series["deployments"][name])
    if any(value is not None for value in series["nodes"]):
        line = Line("alive", series["nodes"], 0, stepped=True)
        yield Plot("Nodes", "nodes", [line], sampled=True)
    if series["errors_per_s"]:
        yield Plot("Errors", "requests/s", _named(series["errors_per_s"]))
    if len(series["answers_per_s"]) > 1:
        yield Plot("Answers by model", "answers/s", _named(series["answers_per_s"]))
    if series["usd"]:
        yield Plot("Dollars spent", "USD", [Line("until then", series["usd"], 0)])


def latency(series: Mapping[str, Any], slo: Mapping[str, Any], name: str, title: str) -> Plot:
    """The percentiles of a time, with its limit if it has one."""
    stem = name.removesuffix("_s")
    lines = [
        Line(percentile, series[f"{stem}_{percentile}_s"], colour, line)
        for percentile, colour, line in (
            ("p50", 0, "solid"),
            ("p90", 2, "dashed"),
            ("p99", 1, "dotted"),
        )
    ]
    if slo[name] is not None:
        limit = [slo[name]] * len(series["at_s"])
        lines.append(Line(f"limit {slo[name]:g} s", limit, 3, "dashdot"))
    return Plot(title, "s", lines)


def deployment(name: str, counts: Mapping[str, Values]) -> Iterator[Plot]:
    """Replicas, and the requests that wait and are answered."""
    lines = [
        Line("wanted", counts["wanted"], 1, "dashed", stepped=True),
        Line("running", counts["running"], 0, stepped=True),
        Line("starting", counts["starting"], 2, "dotted", stepped=True),
        Line("stopping", counts["stopping"], 3, "dashdot", stepped=True),
    ]
    if any(value is not None for value in counts["clairvoyant"]):
        lines.append(Line("clairvoyant", counts["clairvoyant"], 4, "long", stepped=True))
    # Most of the time none starts or stops, and most deployments never do.
    shown = [line for line in lines if any(line.values) or line in lines[:2]]
    yield Plot(f"{name}: replicas", "replicas", shown, sampled=True)
    yield Plot(
        f"{name}: requests",
        "requests",
        [
            Line("queued", counts["queued"], 1, "dashed"),
            Line("ongoing", counts["ongoing"], 0),
        ],
        sampled=True,
    )


def _named(by_name: Mapping[str, Values]) -> list[Line]:
    return [
        Line(name, values, index % COLOURS, line)
        for index, ((name, values), line) in enumerate(zip(by_name.items(), LINES, strict=False))
    ]
