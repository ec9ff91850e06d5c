"""The figures of some requests: rates, goodput, percentiles, money."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ops.load.report.phases import phases, reached_s
from ops.load.report.reading import DROPPED, Request, Run, Slo

PERCENTILES = (50, 90, 99)
_MEASURES: dict[str, Callable[[Request], float | None]] = {
    "ttft_s": lambda request: request.ttft_s,
    "tpot_s": lambda request: request.tpot_s,
    "e2e_s": lambda request: request.e2e_s,
}


def is_good(request: Request, slo: Slo) -> bool:
    """Whether the request ended without an error and within every limit that applies to it.

    The share of such requests is what DistServe (Zhong et al., OSDI 2024, section 2) calls SLO
    attainment, of the times to first token and per output token, and here goodput; a failed request
    is never within. A limit on a time that an answer doesn't have, such as the time per token of a
    whole answer, doesn't apply.
    """
    if request.error is not None:
        return False
    for name, measure in _MEASURES.items():
        limit, took = getattr(slo, name), measure(request)
        if limit is not None and took is not None and took > limit:
            return False
    return True


def percentiles(values: Iterable[float | None]) -> dict[str, float | None]:
    """`p50`, `p90` and `p99`, interpolated linearly between neighbours (numpy's default, method 7
    of Hyndman and Fan 1996); each None without values."""
    known = [value for value in values if value is not None]
    if not known:
        return dict.fromkeys((f"p{p}" for p in PERCENTILES), None)
    found = np.percentile(known, PERCENTILES)
    return {f"p{p}": rounded(value) for p, value in zip(PERCENTILES, found, strict=True)}


def of(requests: Sequence[Request], slo: Slo, seconds: float, served: int) -> dict[str, Any]:
    """The figures of these requests.

    Times are of answers without an error, as vLLM's and GuideLLM's benchmarks take them: failed
    requests show in the goodput and among the errors.

    Args:
        requests: those due.
        slo: what makes them good.
        seconds: the time in which they were due, for the rates.
        served: how many answers ended in that time, of whichever requests.
    """
    answers = [request for request in requests if request.error is None]
    good = sum(is_good(request, slo) for request in answers)
    costs = [request.cost for request in requests if request.cost is not None]
    qualities = [request.quality for request in answers if request.quality is not None]
    return {
        "requests": len(requests),
        "answered": len(answers),
        "good": good,
        "failed": len(requests) - len(answers),
        "goodput": ratio(good, len(requests)),
        "offered_per_s": ratio(len(requests), seconds),
        "served_per_s": ratio(served, seconds),
        **{name: percentiles(map(measure, answers)) for name, measure in _MEASURES.items()},
        "usd": rounded(sum(costs)) if costs else None,
        "usd_per_1000_requests": ratio(1000 * sum(costs), len(costs)),
        "quality": rounded(float(np.mean(qualities))) if qualities else None,
    }


def whole(run: Run) -> dict[str, Any]:
    """The figures of all requests."""
    return _whole(run, run.requests)


def by_stage(run: Run) -> list[dict[str, Any]]:
    """Of each phase, the figures of the requests that were due in it."""
    found = []
    for phase in phases(run):
        seconds = reached_s(run, phase)
        served = _served(run.requests, phase.start_s, phase.start_s + seconds)
        found.append(
            {
                **{key: getattr(phase, key) for key in ("name", "kind", "start_s", "end_s")},
                **of(phase.requests, run.outline.slo, seconds, served),
            }
        )
    return found


def by_model(run: Run) -> list[dict[str, Any]]:
    """Of each model, the figures of the requests that it answered and its share of all answers;
    the most frequent one first. `model` is None for requests that no model answered."""
    answers = sum(request.error is None for request in run.requests)
    models = defaultdict(list)
    for request in run.requests:
        models[request.model].append(request)
    found = []
    for model in sorted(models, key=lambda model: -len(models[model])):
        figures = _whole(run, models[model])
        found.append({"model": model, "share": ratio(figures["answered"], answers), **figures})
    return found


def _whole(run: Run, requests: Sequence[Request]) -> dict[str, Any]:
    served = _served(requests, 0.0, run.length_s)
    return of(requests, run.outline.slo, run.length_s, served)


def _served(requests: Iterable[Request], start_s: float, end_s: float) -> int:
    """How many answers ended from `start_s` to `end_s`."""
    return sum(r.error is None and start_s <= r.ended < end_s for r in requests)


def errors(run: Run) -> list[dict[str, Any]]:
    """Failed requests by class and HTTP status, the most frequent first."""
    found = Counter((r.error, r.status) for r in run.requests if r.error is not None)
    return [
        {
            "class": error,
            "status": status,
            "requests": count,
            "share": ratio(count, len(run.requests)),
        }
        for (error, status), count in found.most_common()
    ]


def lateness(run: Run) -> dict[str, float | None]:
    """How much later than due requests were sent, in seconds: percentiles and the largest."""
    late = [request.sent - request.at for request in run.requests if request.error != DROPPED]
    return {**percentiles(late), "max": rounded(max(late)) if late else None}


def ratio(part: float, whole: float) -> float | None:
    """None of nothing."""
    return rounded(part / whole) if whole else None


def rounded(value: float) -> float:
    """To six significant digits, which is more than any figure here is exact."""
    return float(f"{value:.6g}")
