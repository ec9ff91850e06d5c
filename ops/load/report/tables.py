"""The tables of a report's page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ops.load.report.text import percent, shown

MOST_ROWS = 100


@dataclass(frozen=True)
class Column:
    """A column's head; `text` is aligned to the left, neighbours of one `group` share a head."""

    title: str
    text: bool = False
    group: str = ""


@dataclass(frozen=True)
class Table:
    """A table; `empty` is said where it has no rows."""

    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    empty: str = "Nothing to show."

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The heads above the columns', each with the number of its columns; empty without any."""
        names = [column.group for column in self.columns]
        return [(name, len(list(same))) for name, same in groupby(names)] if any(names) else []


_FIGURES = (
    *map(Column, ("requests", "failed", "goodput")),
    *(Column(name, group="requests/s") for name in ("offered", "served")),
    *(
        Column(percentile, group=time)
        for time in ("time to first token, s", "time per output token, s", "end to end, s")
        for percentile in ("p50", "p90", "p99")
    ),
    *(Column(name, group="USD") for name in ("all", "per 1,000")),
    Column("predicted quality"),
)
_TIMES = "Times are of answers without an error"


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
    times = (Column("from", group="seconds"), Column("to", group="seconds"))
    columns = [Column("stage", True), *times, *_FIGURES]
    return Table("Stages", caption, columns, bounded(rows))


def _models(report: Mapping[str, Any]) -> Table:
    rows = [
        [model["model"] or "none", percent(model["share"]), *_figures(model)]
        for model in report["models"]
    ]
    columns = [Column("model", True), Column("share of answers"), *_FIGURES]
    caption = f"{_TIMES}, by the model that answered; “none” is where no model did."
    return Table("Models", caption, columns, bounded(rows), "No request was sent.")


def _errors(report: Mapping[str, Any]) -> Table:
    rows = [
        [error["class"], error["status"], error["requests"], percent(error["share"])]
        for error in report["errors"]
    ]
    columns = [Column("error", True), *map(Column, ("HTTP status", "requests", "of all"))]
    caption = "Failed requests, by the code of the error or by how they ended."
    return Table("Errors", caption, columns, bounded(rows), "None.")


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
        *(Column(name, group="after the rise, s") for name in ("more wanted", "more running")),
        Column("goal held again", group="after the rise, s"),
        *(Column(name, group="after its end, s") for name in ("fewer wanted", "fewer running")),
        Column("back as before", group="after its end, s"),
    ]
    caption = (
        "Seconds from the rise in load to more replicas wanted, to more running, and until the "
        "promised share of requests was good for the rest of the load (0: always); then seconds "
        "from the end of that load to fewer replicas, and to no more than before the rise. A dash: "
        "it didn't happen, or isn't known."
    )
    return Table("Reactions", caption, columns, bounded(rows), "The load never rose.")


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
        *(Column(name, group="replicas, at most") for name in ("wanted", "running")),
        *(Column(name, group="requests, at most") for name in ("queued", "ongoing")),
        *(Column(name, group="replica-seconds") for name in ("used", "clairvoyant’s", "ratio")),
    ]
    caption = (
        "A clairvoyant scaler starts each replica just early enough that no request waits. To know "
        "its replica-seconds takes the profile's capacity of the deployment. A dash: not known."
    )
    return Table("Replica-seconds", caption, columns, bounded(rows), "No sample was read.")


def _figures(figures: Mapping[str, Any]) -> list[Any]:
    return [
        *(figures["requests"], figures["failed"], percent(figures["goodput"])),
        *(figures["offered_per_s"], figures["served_per_s"]),
        *(
            figures[measure][percentile]
            for measure in ("ttft_s", "tpot_s", "e2e_s")
            for percentile in ("p50", "p90", "p99")
        ),
        *(figures[key] for key in ("usd", "usd_per_1000_requests", "quality")),
    ]


def bounded(rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """The first rows, and how many are left out."""
    if len(rows) <= MOST_ROWS:
        return list(rows)
    more = [f"and {len(rows) - MOST_ROWS} more, in report.json"]
    return [*rows[:MOST_ROWS], more + [""] * (len(rows[0]) - 1)]
