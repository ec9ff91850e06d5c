"""The results as a table, with a column that is extrapolated."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log

from ops.bench.store.timing import Figures

FAR = 10_000_000  # rows of the extrapolated column


@dataclass(frozen=True)
class _Line:
    """A figure's name, what it says, and whether it grows with the rows, so that it can be
    extrapolated."""

    name: str
    label: str
    grows: bool = False


def _times(name: str, label: str, *more: tuple[str, str]) -> list[_Line]:
    suffixes = [
        ("ms", "ms"),
        ("p95_ms", "95th percentile"),
        ("p99_ms", "99th percentile"),
        *more,
    ]
    return [_Line(f"{name}_{suffix}", f"{label}, {unit}") for suffix, unit in suffixes]


_CPU = [("cpu_ms", "CPU ms of its thread"), ("process_cpu_ms", "CPU ms of the process, mean")]

_LINES = [
    *_times("decision", "decision in a router, without embedding", *_CPU),
    *_times("decision_paced", "the same, every 5 ms", *_CPU),
    *_times("decision_of_two", "the same, in two routers at once", *_CPU),
    _Line("two_over_one", "decisions per CPU second, two routers over one"),
    _Line("k", "neighbours that a decision uses"),
    *_times("lookup_16", "lookup of 16 neighbours"),
    *_times("lookup_k", "lookup of as many as a decision uses"),
    _Line("recall_at_16", "recall@16"),
    _Line("learned_per_s", "answers learned durably, 1/s, from 4 senders"),
    *_times("decision_while_learning", "decision meanwhile, every 5 ms", *_CPU),
    _Line("freshness_s", "from an answer to its use by another router, s"),
    _Line("freshness_most_s", "the longest of 10, s"),
    _Line("write_s", "written to the database, s", grows=True),
    _Line("first_copy_s", "first start, to the first copy, s", grows=True),
    _Line("first_ready_s", "first start, to ready (with a fit), s", grows=True),
    _Line("restart_copy_s", "start with a copy on disk, to the copy, s", grows=True),
    _Line("restart_s", "start with a copy on disk, to ready, s", grows=True),
    _Line("router_knows_ms", "router's start without the store, to a decision by the copy, ms"),
    _Line("first_actor_mb", "actor after the first start, MB", grows=True),
    _Line("first_actor_copies_mb", "more than over an empty store, MB", grows=True),
    *[
        line
        for routers in (1, 2, 4)
        for line in (
            _Line(f"node_{routers}_mb", f"actor and {routers} routers, MB (PSS)", grows=True),
            _Line(f"node_{routers}_copies_mb", "of that for the copies, MB", grows=True),
        )
    ],
    _Line("disk_mb", "copy on disk, MB", grows=True),
    _Line("disk_bytes_per_row", "bytes a row, without the fitted predictor"),
    _Line("publish_ms", "a change of 32 rows published, ms"),
    _Line("publish_medium_s", "4,096 rows added to the medium segment, at most, s", grows=True),
    _Line("join_s", "medium segment joined with the large one, s", grows=True),
    *_times("beside_decision", "beside the others in one process: decision"),
    *_times("beside_lookup_16", "lookup of 16"),
    *_times("beside_lookup_k", "lookup of as many as a decision uses"),
    *[
        line
        for name, label in (("chroma", "Chroma"), ("lance", "LanceDB"))
        for line in (
            *_times(name, f"{label}, 16 neighbours and outcomes from JSON"),
            _Line(f"{name}_recall_at_16", f"{label}'s recall@16"),
            _Line(f"{name}_build_s", f"{label} built, s", grows=True),
            _Line(f"{name}_over_decision", f"{label}'s time over our decision's"),
            _Line(f"{name}_over_lookup_16", f"{label}'s time over our lookup's"),
        )
    ],
]


def extrapolated(results: Mapping[int, Figures]) -> Figures:
    """What grows with the rows, at 10,000,000 of them, by a straight line through the last two
    columns. Seconds are those of a power law instead where that is steeper than the line and the
    rows, as finding the lists of an index is; what has not grown, stays.
    """
    if len(results) < 2:
        return {}
    (less, before), (rows, last) = list(results.items())[-2:]
    return {
        line.name: _further(line.name, less, before[line.name], rows, last[line.name])
        for line in _LINES
        if line.grows and line.name in before and line.name in last
    }


def table(results: Mapping[int, Figures]) -> str:
    """The results as a Markdown table, a column for each number of rows."""
    far = extrapolated(results)
    columns = [*results.values(), *([far] if far else [])]
    heads = [f"{n:,}" for n in results] + ([f"{FAR:,}, extrapolated"] if far else [])
    lines = ["| past queries | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for line in _LINES:
        cells = " | ".join(_cell(column.get(line.name)) for column in columns)
        lines.append(f"| {line.label} | {cells} |")
    return "\n".join(lines)


def _further(name: str, less: int, before: float, rows: int, last: float) -> float:
    straight = max(last, last + (last - before) / (rows - less) * (FAR - rows))
    if not name.endswith("_s") or before <= 0 or last <= 0:
        return straight
    return max(straight, float(last * (FAR / rows) ** (log(last / before) / log(rows / less))))


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
