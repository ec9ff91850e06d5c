"""The figures of the rounds, their ratios to the reference, and the tables of both."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ops.bench.overhead.cases import CASES, Case
from ops.bench.overhead.contestants import REFERENCE, UNMETERED
from ops.bench.overhead.load import Measured
from ops.bench.overhead.recording import per_answer
from ops.bench.overhead.rounds import CALLERS, UPSTREAM, Played, Round

BARE = "bare"
_LEAST_CORES = 0.005  # that are worth a word

Figures = dict[str, Any]


def figures(played: Sequence[Round]) -> Figures:
    """One contestant's figures in one case: medians over the rounds."""
    measured = [one.measured for one in played]
    offered = sum(one.offered for one in measured)
    parts = sorted({part for one in played for part in one.cores})
    return {
        "per_s": _median([len(one.latencies) / one.seconds for one in measured]),
        "p50_ms": _latency(measured, 50),
        "p99_ms": _latency(measured, 99),
        "answered": sum(len(one.latencies) for one in measured) / max(offered, 1),
        "faults": sum(len(one.faults) for one in measured),
        "cores": {part: _median([one.cores.get(part, 0.0) for one in played]) for part in parts},
        "rounds": len(measured),
    }


def results(played: Played) -> dict[str, dict[str, Figures]]:
    """The figures by case and contestant, with ratios to the reference where it took part."""
    found: dict[str, dict[str, Figures]] = {}
    for title, contestants in played.items():
        found[title] = {name: figures(mine) for name, mine in contestants.items()}
        measures = {name: _measures(title, mine, contestants) for name, mine in contestants.items()}
        theirs = measures.get(REFERENCE, [])
        for name, mine in measures.items():
            if name != BARE and mine and theirs and min(theirs) > 0:
                each = np.divide(mine, theirs)
                found[title][name] |= {
                    "ratio": _median(mine) / _median(theirs),
                    "lowest": float(each.min()),
                    "highest": float(each.max()),
                }
    return found


def _measures(
    title: str, mine: Sequence[Round], contestants: Mapping[str, Sequence[Round]]
) -> list[float]:
    """What is compared, for each round: requests a second, or the latency added to the upstream's;
    nothing of an open loop, nor where nothing was answered."""
    if CASES[title].connections is None or not all(one.measured.latencies for one in mine):
        return []
    if not CASES[title].by_latency:
        return [len(one.measured.latencies) / one.measured.seconds for one in mine]
    bare = [_percentile(one.measured.latencies, 50) for one in contestants[BARE]]
    own = [_percentile(one.measured.latencies, 50) for one in mine]
    return [whole - part for whole, part in zip(own, bare, strict=True)]


def metered(played: Played) -> str:
    """What the metrics cost, as Markdown: the CPU time of a request in all of a contestant's
    processes, with and without them, and the ratio of the two in each round."""
    lines = ["| | with metrics | without | ratio: median (lowest, highest) |", "|---" * 4 + "|"]
    for title, contestants in played.items():
        for name, rounds in contestants.items():
            without = [cpu_ms(one) for one in contestants.get(f"{name}{UNMETERED}", ())]
            if without:
                own = [cpu_ms(one) for one in rounds]
                each = np.divide(own, without)
                lines.append(
                    f"| {CASES[title].title}, {name} | {_median(own):.2f} ms "
                    f"| {_median(without):.2f} ms "
                    f"| {_median(list(each)):.3f} ({each.min():.3f}, {each.max():.3f}) |"
                )
    if len(lines) > 2:
        router, replica = (1e6 * seconds for seconds in per_answer())
        lines += ["", f"Recording alone: {router:.0f} µs of the router, {replica:.0f} of a replica"]
    return "\n".join(lines)


def cpu_ms(one: Round) -> float:
    """Milliseconds of CPU that a contestant used for each answer."""
    cores = sum(used for part, used in one.cores.items() if part not in (UPSTREAM, CALLERS))
    return 1e3 * cores * one.measured.seconds / max(len(one.measured.latencies), 1)


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _percentile(seconds: Sequence[float], percent: float) -> float:
    """In milliseconds."""
    return 1e3 * float(np.percentile(seconds, percent))


def _latency(measured: Sequence[Measured], percent: float) -> float | None:
    """In milliseconds, of the rounds with answers; None if there are none."""
    found = [_percentile(one.latencies, percent) for one in measured if one.latencies]
    return _median(found) if found else None


# --- tables ---


def table(found: Mapping[str, Mapping[str, Figures]]) -> str:
    """The figures as Markdown: a row for each case, a column for each contestant."""
    names = list(dict.fromkeys(name for contestants in found.values() for name in contestants))
    lines = [f"| | goal | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for title, contestants in found.items():
        case = CASES[title]
        cells = [
            _cell(case, contestants[name], contestants) if name in contestants else ""
            for name in names
        ]
        lines.append(f"| {case.title} | {_goal(case)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _goal(case: Case) -> str:
    if case.connections is None:
        return f"≥ {100 * case.goal:g} % answered"
    return f"≤ {case.goal:g}× added" if case.by_latency else f"≥ {case.goal:g}×"


def _cell(case: Case, mine: Figures, contestants: Mapping[str, Figures]) -> str:
    if mine["p99_ms"] is None:
        return f"no answer, {mine['faults']} faults"
    if case.connections is None:
        return f"{100 * mine['answered']:.1f} %, p99 {mine['p99_ms']:,.0f} ms"
    if not case.by_latency:
        value = f"{mine['per_s']:,.0f}/s"
    elif mine is contestants[BARE]:
        value = f"{mine['p50_ms']:.2f} ms"
    else:
        value = f"+{mine['p50_ms'] - contestants[BARE]['p50_ms']:.2f} ms"
    if "ratio" in mine:
        value += f", {mine['ratio']:.2f}× ({mine['lowest']:.2f}–{mine['highest']:.2f})"
    return value + (f", {mine['faults']} faults" if mine["faults"] else "")


def cores(found: Mapping[str, Mapping[str, Figures]]) -> str:
    """Where the CPU time went, as Markdown: a list for each case, the busiest first."""
    lines = []
    for title, contestants in found.items():
        lines += ["", f"{CASES[title].title}, cores used:", ""]
        for name, mine in contestants.items():
            busiest = sorted(mine["cores"].items(), key=lambda item: -item[1])
            shown = [f"{part} {used:.2f}" for part, used in busiest if used >= _LEAST_CORES]
            lines.append(f"- {name}: {', '.join(shown)}")
    return "\n".join(lines).strip()
