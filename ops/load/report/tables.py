"""The tables of a report's page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_ROWS = 100


def shown(value: Any) -> str:
    """A cell's text: three significant digits of a number that isn't whole, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int) or (isinstance(value, float) and abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Column:
    """A column's head; `text` is aligned to the left."""

    title: str
    text: bool = False


@dataclass(frozen=True)
class Table:
    """A table; `empty` is said where it has no rows."""

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    empty: str = "Nothing to show."


_FIGURES = (
    *("requests", "goodput", "offered /s", "served /s", "failed"),
    *("TTFT p50", "p90", "p99", "per token p50", "p90", "p99", "end to end p50", "p90", "p99"),
    *("USD", "USD per 1,000", "quality"),
)
_TIMES = "Times in seconds, of answers without an error"


def tables(report: Mapping[str, Any]) -> list[Table]:
    """In the order in which they are shown, each with at most `MOST_ROWS` rows."""
    return [
        _stages(report),
        _models(report),
        _errors(report),
        _reactions(report),
        _deployments(report),
    ]


def _stages(report: Mapping[str, Any]) -> Table:
    rows = [
        [f"{number} {stage['name']}", stage["start_s"], stage["end_s"], *_figures(stage)]
        for number, stage in enumerate(report["stages"], 1)
    ]
    rows.append(["whole run", 0.0, report["run"]["ended_s"], *_figures(report["whole"])])
    late = report["lateness_s"]
    caption = f"{_TIMES}. Requests belong to the stage in which they were due."
    if late["p99"] is not None:
        caption += (
            f" The tool sent 99 % of them at most {late['p99']:.3g} s late, "
            f"and all at most {late['max']:.3g} s."
        )
    columns = [Column("stage", True), *map(Column, ("from, s", "to, s", *_FIGURES))]
    return Table("Stages", caption, columns, _bounded(rows))


def _models(report: Mapping[str, Any]) -> Table:
    rows = [
        [model["model"] or "none", model["share"], *_figures(model)] for model in report["models"]
    ]
    columns = [Column("model", True), *map(Column, ("of answers", *_FIGURES))]
    caption = f"{_TIMES}, by the model that answered; “none” is where no model did."
    return Table("Models", caption, columns, _bounded(rows), "No request was sent.")


def _errors(report: Mapping[str, Any]) -> Table:
    rows = [
        [error["class"], error["status"], error["requests"], error["share"]]
        for error in report["errors"]
    ]
    columns = [Column("error", True), *map(Column, ("HTTP status", "requests", "of those sent"))]
    caption = "Failed requests, by the code of the error or by how they ended."
    return Table("Errors", caption, columns, _bounded(rows), "None.")


def _reactions(report: Mapping[str, Any]) -> Table:
    rows = [
        [
            f"{reaction['stage']}: {shown(reaction['from_per_s'])} → "
            f"{shown(reaction['to_per_s'])} requests/s",
            name,
            *(mine[key] for key in ("wanted_s", "running_s")),
            reaction["slo_regained_s"],
            *(mine[key] for key in ("down_wanted_s", "down_running_s", "back_s")),
        ]
        for reaction in report["reactions"]
        for name, mine in reaction["deployments"].items()
        if any(value is not None for value in mine.values()) or len(reaction["deployments"]) == 1
    ]
    columns = [
        Column("rise", True),
        Column("deployment", True),
        *map(Column, ("more wanted", "more running", "goal held again")),
        *map(Column, ("fewer wanted", "fewer running", "back as before")),
    ]
    caption = (
        "Seconds from the rise in load to more replicas wanted, to more running, and until the "
        "promised share of requests was good for the rest of the load (0: always); then seconds "
        "from the end of that load to fewer replicas, and to no more than before the rise. A dash: "
        "it didn't happen, or isn't known."
    )
    return Table("Reactions", caption, columns, _bounded(rows), "The load never rose.")


def _deployments(report: Mapping[str, Any]) -> Table:
    rows = [
        [
            name,
            *(mine["most"][key] for key in ("wanted", "running", "queued", "ongoing")),
            *(mine[key] for key in ("used_replica_s", "clairvoyant_replica_s", "ratio")),
        ]
        for name, mine in report["deployments"].items()
    ]
    columns = [
        Column("deployment", True),
        *map(Column, ("most wanted", "most running", "most queued", "most ongoing")),
        *map(Column, ("replica-seconds", "clairvoyant’s", "ratio")),
    ]
    caption = (
        "A clairvoyant scaler starts each replica just early enough that no request waits. To know "
        "its replica-seconds takes the profile's capacity of the deployment. A dash: not known."
    )
    return Table("Replica-seconds", caption, columns, _bounded(rows), "No sample was read.")


def _figures(figures: Mapping[str, Any]) -> list[Any]:
    return [
        *(
            figures[key]
            for key in ("requests", "goodput", "offered_per_s", "served_per_s", "failed")
        ),
        *(
            figures[measure][percentile]
            for measure in ("ttft_s", "tpot_s", "e2e_s")
            for percentile in ("p50", "p90", "p99")
        ),
        *(figures[key] for key in ("usd", "usd_per_1000_requests", "quality")),
    ]


def _bounded(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The first rows, and how many are left out."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    more = [f"and {len(rows) - MOST_ROWS} more, in report.json"]
    return [*rows[:MOST_ROWS], more + [""] * (len(rows[0]) - 1)]
