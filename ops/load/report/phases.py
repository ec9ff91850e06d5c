"""The parts of a run that have a load of their own: its stages, or the parts of a spike's."""

from collections.abc import Iterator, Sequence
from typing import Any

from ops.load.report.reading import Request, Run, Stage


def phases(run: Run) -> list[Stage]:
    """The stages in order; a spike, if the profile says where in its stage it is, in up to three
    parts: the spike has the stage's name, and what is around it "…: before" and "…: after"."""
    profiled = run.outline.profile.get("stages")
    known = profiled if isinstance(profiled, list) else []
    found: list[Stage] = []
    for index, stage in enumerate(run.outline.stages):
        found += _parts(stage, known[index] if index < len(known) else None)
    return found


def _parts(stage: Stage, profiled: Any) -> Iterator[Stage]:
    try:
        begins = stage.start_s + float(profiled["after_s"])
        ends = begins + float(profiled["for_s"])
    except (TypeError, KeyError, ValueError):
        yield stage
        return
    around = {"kind": "steady"}
    if begins > stage.start_s:
        before = {"name": f"{stage.name}: before", "end_s": begins}
        yield stage.model_copy(update={**around, **before})
    yield stage.model_copy(update={"start_s": begins, "end_s": ends})
    if ends < stage.end_s:
        after = {"name": f"{stage.name}: after", "start_s": ends}
        yield stage.model_copy(update={**around, **after})


def due_in(run: Run, start_s: float, end_s: float) -> Sequence[Request]:
    """The requests that were due from `start_s` to `end_s`; what is due at the end of the schedule
    belongs to what ends there."""
    last = end_s >= run.outline.seconds
    return [r for r in run.requests if start_s <= r.at and (r.at < end_s or last)]


def reached_s(run: Run, stage: Stage) -> float:
    """How many seconds of the stage there were: fewer than planned if the run was interrupted."""
    return max(0.0, min(stage.end_s, run.length_s) - stage.start_s)
