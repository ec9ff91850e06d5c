"""How soon the application reacts: to each rise in load, and to its end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ops.load.report.figures import is_good, ratio, rounded
from ops.load.report.phases import Phase, phases, reached_s
from ops.load.report.reading import Counts, Request, Run

WINDOW_S = 5
RISE = 1.5
Value = Callable[[Counts], int | None]


@dataclass(frozen=True)
class _Rise:
    """From a phase with more load to the end of that load.

    Attributes:
        until: when the next rise begins, or the run ends.
        requests: those due while the load lasts.
    """

    phase: Phase
    before_per_s: float
    after_per_s: float
    end_s: float
    until: float
    requests: Sequence[Request]


def reactions(run: Run) -> list[dict[str, Any]]:
    """For each rise in load, how many seconds each reaction to it took.

    A rise is the beginning of a phase whose requests/s are at least `RISE` times those of the phase
    before (of a ramp before, those of its last quarter); the first phase rises from nothing. Its
    load ends where a later phase has less than its requests/s divided by `RISE`, or with the
    schedule. What happens within a phase, such as a day's curve or a trace, isn't looked at. A
    rise that is neither a spike nor a ramp and changed no deployment and no goodput is left out.

    Returns:
        Each with `stage`, `kind`, `at_s`, `end_s` (seconds since the run began), `from_per_s`,
        `to_per_s` (requests/s), `slo_regained_s` (see `_regained_s`) and, in `deployments`, for
        each one seconds from `at_s` to the first sample with more replicas than at `at_s` while
        the load lasts, `wanted_s` and `running_s`, and from `end_s` to the first one with fewer
        than at `end_s`, `down_wanted_s` and `down_running_s`, and to no more running than
        before the rise, `back_s`. None is what didn't happen or can't be known. Samples are a
        second apart, and so exact are the figures.
    """
    found = []
    for rise in _rises(run):
        regained = _regained_s(run, rise)
        deployments = {name: _deployment(run, name, rise) for name in run.deployments}
        changed = any(reaction["wanted_s"] is not None for reaction in deployments.values())
        if changed or regained != 0 or rise.phase.kind in ("spike", "ramp"):
            found.append(
                {
                    "stage": rise.phase.name,
                    "kind": rise.phase.kind,
                    "at_s": rise.phase.start_s,
                    "end_s": rise.end_s,
                    "from_per_s": rounded(rise.before_per_s),
                    "to_per_s": rounded(rise.after_per_s),
                    "slo_regained_s": regained,
                    "deployments": deployments,
                }
            )
    return found


def _rises(run: Run) -> list[_Rise]:
    reached = [phase for phase in phases(run) if reached_s(run, phase) > 0]
    rates = [_rate(run, phase, phase.start_s) for phase in reached]
    lasts = [0.0, *(_last_rate(run, phase) for phase in reached)]
    indexes = [
        index for index, rate in enumerate(rates) if rate > 0 and rate >= RISE * lasts[index]
    ]
    found = []
    for index, following in zip_longest(indexes, indexes[1:]):
        later = range(index + 1, len(reached) if following is None else following)
        over = next((i for i in later if rates[i] < rates[index] / RISE), later.stop)
        end = reached[over].start_s if over < len(reached) else run.length_s
        until = run.outline.ended if following is None else reached[following].start_s
        requests = [request for phase in reached[index:over] for request in phase.requests]
        found.append(
            _Rise(reached[index], lasts[index], rates[index], min(end, until), until, requests)
        )
    return found


def _rate(run: Run, phase: Phase, start_s: float) -> float:
    """The requests/s that were due in the phase from `start_s` on."""
    due = sum(request.at >= start_s for request in phase.requests)
    return ratio(due, min(phase.end_s, run.length_s) - start_s) or 0.0


def _last_rate(run: Run, phase: Phase) -> float:
    if phase.kind != "ramp":
        return _rate(run, phase, phase.start_s)
    return _rate(run, phase, phase.start_s + 0.75 * reached_s(run, phase))


def _regained_s(run: Run, rise: _Rise) -> float | None:
    """Seconds from the rise until the promised share of requests is good for the rest of its load.

    Looked at are windows of `WINDOW_S` seconds, one beginning each second and all within the load,
    of the requests due in them; one without requests keeps the promise. The figure is the beginning
    of the first window after the last one that fails: 0 if none does, None if the last one does.
    """
    slo, start = run.outline.slo, rise.phase.start_s
    seconds = max(1, int(rise.end_s - start))
    due, good = [0] * seconds, [0] * seconds
    for request in rise.requests:
        second = min(int(request.at - start), seconds - 1)
        due[second] += 1
        good[second] += is_good(request, slo)
    begins = range(max(1, seconds - WINDOW_S + 1))
    failing = [
        second
        for second in begins
        if sum(good[second : second + WINDOW_S]) < slo.share * sum(due[second : second + WINDOW_S])
    ]
    if not failing:
        return 0.0
    return None if failing[-1] == begins[-1] else float(failing[-1] + 1)


def _deployment(run: Run, name: str, rise: _Rise) -> dict[str, float | None]:
    start, end, until = rise.phase.start_s, rise.end_s, rise.until
    wanted = _Steps(run, name, lambda counts: counts.wanted)
    running = _Steps(run, name, lambda counts: counts.running)
    base = running.value(start)
    return {
        "wanted_s": wanted.first(start, end, lambda now, then: now > then),
        "running_s": running.first(start, end, lambda now, then: now > then),
        "down_wanted_s": wanted.first(end, until, lambda now, then: now < then),
        "down_running_s": running.first(end, until, lambda now, then: now < then),
        "back_s": running.first(end, until, lambda now, then: now <= base < then),
    }


class _Steps:
    """One number of a deployment over time; 0 if it was never told."""

    def __init__(self, run: Run, name: str, value: Value) -> None:
        self._known: Sequence[tuple[float, int]] = [
            (sample.at, number)
            for sample in run.read
            if (counts := sample.deployments.get(name)) and (number := value(counts)) is not None
        ]

    def value(self, moment: float) -> int:
        """As the last sample until then says, or else the first one."""
        earlier = [number for at, number in self._known if at <= moment]
        return (earlier or [number for _, number in self._known[:1]] or [0])[-1]

    def first(self, start: float, end: float, changed: Callable[[int, int], bool]) -> float | None:
        """Seconds from `start` to the first sample, until `end`, whose number has changed so since
        `start`; None if there is none."""
        then = self.value(start)
        moments = (at for at, now in self._known if start <= at <= end and changed(now, then))
        moment = next(moments, None)
        return None if moment is None else rounded(moment - start)
