"""The run over time: what was offered, answered and measured in each second."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from ops.load.report.clairvoyant import Lifetimes
from ops.load.report.figures import is_good, percentiles, rounded
from ops.load.report.reading import Counts, Request, Run, Sample

MOST_STEPS = 1800
MOST_NAMES = 6
OTHERS = "others"
_FRESH_S = 3.0
_MEASURES: Mapping[str, Callable[[Request], float | None]] = {
    "ttft": lambda request: request.ttft_s,
    "tpot": lambda request: request.tpot_s,
    "e2e": lambda request: request.e2e_s,
}


def series(run: Run, clairvoyant: Mapping[str, Lifetimes]) -> dict[str, Any]:
    """The run in equal steps of whole seconds, at most `MOST_STEPS` of them.

    Returns:
        `at_s`, where each step begins, and `step_s`, its length. By the step in which a request was
        due: `offered_per_s`, `good_per_s`, and percentiles of answers as `ttft_p50_s` and so on.
        By the step in which it ended: `served_per_s`, `errors_per_s` by class and
        `answers_per_s` by model (of either the `MOST_NAMES` most frequent, and the others
        together), `usd` (all until the step's end). As sampled last in the step: `nodes`, and in
        `deployments` each one's counts; with them, the replicas that a `clairvoyant` scaler has in
        the step's middle. None is where nothing is known; `missing` lists `[from, to]` (seconds)
        without samples.
    """
    planned = 0 if run.outline.interrupted else run.outline.seconds
    span = max(planned, run.outline.ended, 1.0)
    step = math.ceil(span / MOST_STEPS)
    count = math.ceil(span / step)
    bins = _Bins(step, count)
    samples = bins.samples(run.read, [s.at for s in run.samples if s.error is not None])
    answers = [request for request in run.requests if request.error is None]
    failed = [request for request in run.requests if request.error is not None]
    good = (request for request in answers if is_good(request, run.outline.slo))
    return {
        "at_s": [index * step for index in range(count)],
        "step_s": step,
        "offered_per_s": bins.per_s(request.at for request in run.requests),
        "good_per_s": bins.per_s(request.at for request in good),
        "served_per_s": bins.per_s(request.ended for request in answers),
        **bins.latencies(answers),
        "errors_per_s": bins.by_name((r.error or "", r.ended) for r in failed),
        "answers_per_s": bins.by_name((r.model or r.asked, r.ended) for r in answers),
        "usd": bins.dollars(run.requests),
        "nodes": [sample and sample.nodes for sample in samples],
        "deployments": {
            name: {**_counts(name, samples), "clairvoyant": bins.alive(clairvoyant.get(name))}
            for name in run.deployments
        },
        "missing": _missing(samples, step) if run.samples else [[0, count * step]],
    }


class _Bins:
    """Equal steps of time; what is before or after all of them counts in the first or last one."""

    def __init__(self, step: int, count: int) -> None:
        self._step = step
        self._count = count

    def index(self, moment: float) -> int:
        return min(max(int(moment // self._step), 0), self._count - 1)

    def per_s(self, moments: Iterable[float]) -> list[float]:
        counts = Counter(self.index(moment) for moment in moments)
        return [rounded(counts[index] / self._step) for index in range(self._count)]

    def by_name(self, moments: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
        by_name = defaultdict(list)
        for name, moment in moments:
            by_name[name].append(moment)
        names = sorted(by_name, key=lambda name: -len(by_name[name]))
        found = {name: self.per_s(by_name[name]) for name in names[:MOST_NAMES]}
        if rest := [moment for name in names[MOST_NAMES:] for moment in by_name[name]]:
            found[OTHERS] = self.per_s(rest)
        return found

    def latencies(self, answers: Iterable[Request]) -> dict[str, list[float | None]]:
        by_step = defaultdict(list)
        for request in answers:
            by_step[self.index(request.at)].append(request)
        found: dict[str, list[float | None]] = {}
        for name, measure in _MEASURES.items():
            steps = [percentiles(map(measure, by_step[index])) for index in range(self._count)]
            for percentile in steps[0]:
                found[f"{name}_{percentile}_s"] = [values[percentile] for values in steps]
        return found

    def dollars(self, requests: Iterable[Request]) -> list[float] | None:
        spent, known = np.zeros(self._count), False
        for request in requests:
            if request.cost is not None:
                known = True
                spent[self.index(request.ended)] += request.cost
        return [rounded(total) for total in np.cumsum(spent)] if known else None

    def alive(self, lives: Lifetimes | None) -> list[int | None]:
        if lives is None:
            return [None] * self._count
        moments = (np.arange(self._count) + 0.5) * self._step
        begun, ended = (
            np.searchsorted(np.sort(ends), moments) for ends in zip(*lives, strict=True)
        )
        return [int(number) for number in begun - ended]

    def samples(self, read: Iterable[Sample], failed: Iterable[float]) -> list[Sample | None]:
        """The last sample until each step's end; None if it is old, or one failed since."""
        known: list[tuple[float, Sample | None]] = [(sample.at, sample) for sample in read]
        known += [(at, None) for at in failed]
        known.sort(key=lambda pair: pair[0])
        found: list[Sample | None] = []
        position, latest = 0, None
        for index in range(self._count):
            end = (index + 1) * self._step
            while position < len(known) and known[position][0] < end:
                latest = known[position][1]
                position += 1
            fresh = latest is not None and end - latest.at <= max(_FRESH_S, self._step)
            found.append(latest if fresh else None)
        return found


def _counts(name: str, samples: Iterable[Sample | None]) -> dict[str, list[int | None]]:
    counts = [sample.deployments.get(name) if sample else None for sample in samples]
    return {
        field.name: [getattr(count, field.name) if count else None for count in counts]
        for field in fields(Counts)
    }


def _missing(samples: Iterable[Sample | None], step: int) -> list[list[int]]:
    found: list[list[int]] = []
    for index, sample in enumerate(samples):
        if sample is not None:
            continue
        if found and found[-1][1] == index * step:
            found[-1][1] += step
        else:
            found.append([index * step, (index + 1) * step])
    return found
