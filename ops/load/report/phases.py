"""The parts of a run that have a load of their own: its stages, or the parts of a spike's."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ops.load.report.reading import Request, Run, Stage


@dataclass(frozen=True)
class Phase:
    """A stage, or a part of one.

    Attributes:
        requests: those that were due in it.
    """

    name: str
    kind: str
    start_s: float
    end_s: float
    requests: list[Request] = field(default_factory=list)


def phases(run: Run) -> list[Phase]:
    """The stages in order; a spike, if the profile says where in its stage it is, in up to three
    parts: the spike has the stage's name, and what is around it "…: before" and "…: after".

    A request belongs to its stage, and there to the last part that had begun when it was due.
    """
    profiled = run.outline.profile.get("stages")
    known = profiled if isinstance(profiled, list) else []
    by_stage: dict[str, list[Phase]] = defaultdict(list)
    for index, stage in enumerate(run.outline.stages):
        by_stage[stage.name] += _parts(stage, known[index] if index < len(known) else None)
    for request in run.requests:
        if parts := by_stage.get(request.stage):
            begun = bisect_right(parts, request.at, key=lambda part: part.start_s)
            parts[max(0, begun - 1)].requests.append(request)
    return [part for parts in by_stage.values() for part in parts]


def _parts(stage: Stage, profiled: Any) -> Iterator[Phase]:
    name, start_s, end_s = stage.name, stage.start_s, stage.end_s
    try:
        begins = start_s + float(profiled["after_s"])
        ends = begins + float(profiled["for_s"])
    except (TypeError, KeyError, ValueError):
        yield Phase(name, stage.kind, start_s, end_s)
        return
    if begins > start_s:
        yield Phase(f"{name}: before", "steady", start_s, begins)
    yield Phase(name, stage.kind, begins, ends)
    if ends < end_s:
        yield Phase(f"{name}: after", "steady", ends, end_s)


def reached_s(run: Run, phase: Phase) -> float:
    """How many seconds of the phase there were: fewer than planned if the run was interrupted."""
    return max(0.0, min(phase.end_s, run.length_s) - phase.start_s)
