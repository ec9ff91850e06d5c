"""A scaler that knows the future: how few replicas would have done without any waiting."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ops.load.report.reading import Request, Run

Lifetimes = Sequence[tuple[float, float]]
"""Of each replica, when it begins to start and when it ends."""

ROUTER = "Router"
_FASTEST = 0.1


def clairvoyant(run: Run) -> Mapping[str, Lifetimes]:
    """Replicas in the fewest replica-seconds with which no request would have waited for a place.

    The scaler knows when each request comes and how long it takes. So each request gets a place
    when it is due and holds it for its service time (`service_times`); with `c(t)` places held,
    `n(t) = max(min_replicas, ceil(c(t) / places))` replicas are needed. The n-th replica is started
    `start_s` seconds before it is needed, and is kept in between if it is needed again within
    `start_s`; else it ends at once. It is counted while it starts and while it runs.

    This is a lower bound, which no scaler that can't see the future reaches. It assumes that
    requests can be moved between replicas (the ceiling packs them), that places don't slow one
    another down, that a replica stops at once, and that a request which failed would have taken the
    median service time. It doesn't know of requests that were dropped.

    Returns:
        Of the deployments of which `run.json` says the places and the start time, and that answered
        a request, the replicas from second 0 to the run's end.
    """
    requests, end, found = by_deployment(run), run.outline.ended, {}
    for name, capacity in run.outline.scaled.items():
        services = service_times(requests.get(name, ()))
        if services and capacity.places is not None and capacity.start_s is not None:
            spans = [(at, min(at + took, end)) for at, took in services]
            least = capacity.min_replicas
            above = _above(spans, capacity.places, capacity.start_s, least)
            found[name] = [(0.0, end)] * least + above
    return found


def _above(spans: Lifetimes, places: int, start_s: float, least: int) -> list[tuple[float, float]]:
    """The replicas above the least number, if each span takes a place."""
    # At the same moment, ends come before beginnings: a place that is given back is free.
    events = [(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans]
    ended: list[tuple[float, float]] = []
    lives: dict[int, tuple[float, float]] = {}  # the last one of the n-th replica
    held, replicas = 0, least
    for moment, change in sorted(events):
        held += change
        needed = max(least, -(-held // places))
        while replicas < needed:
            replicas += 1
            if replicas in lives and moment - lives[replicas][1] <= start_s:
                continue  # it is kept
            if replicas in lives:
                ended.append(lives[replicas])
            lives[replicas] = max(0.0, moment - start_s), moment
        while replicas > needed:
            lives[replicas] = lives[replicas][0], moment
            replicas -= 1
    return [*ended, *lives.values()]


def service_times(requests: Sequence[Request]) -> list[tuple[float, float]]:
    """When each request was due and how long it would hold a place if it needn't wait for one.

    That is the time from its first token to its end, which it spent in a place for certain, and a
    plausible prefill: the 10th percentile of the times to first token of the requests whose prompts
    are about as long (equal when rounded down to a power of two), or its own time to first token
    where that is shorter. A whole answer shows no first token, so it is taken as long as a stream
    of its length at these requests' median time per token, or its own whole time where that is
    shorter or not known better. A failed request is taken as long as the median of the others.

    Returns:
        Pairs of seconds; empty if no request was answered.
    """
    answers = [request for request in requests if request.error is None]
    prefills = _prefills(answers)
    per_token = [request.tpot_s for request in answers if request.tpot_s is not None]
    pace = float(np.median(per_token)) if per_token else None
    known = [(request.at, _service(request, prefills, pace)) for request in answers]
    if not known:
        return []
    median = float(np.median([took for _, took in known]))
    return known + [(request.at, median) for request in requests if request.error is not None]


def _service(request: Request, prefills: dict[int, float], pace: float | None) -> float:
    whole = request.ended - request.sent
    prefill = prefills.get(_size(request))
    if request.stream and request.first is not None and prefill is not None:
        return request.ended - request.first + min(prefill, request.first - request.sent)
    if pace is None or prefill is None or request.completion_tokens is None:
        return whole
    return min(whole, prefill + pace * max(0, request.completion_tokens - 1))


def _prefills(streams: Iterable[Request]) -> dict[int, float]:
    """The fastest decile of the times to first token of streams, by the size of prompts."""
    by_size = defaultdict(list)
    for request in streams:
        if request.stream and request.ttft_s is not None:
            by_size[_size(request)].append(request.ttft_s)
    return {size: float(np.quantile(times, _FASTEST)) for size, times in by_size.items()}


def _size(request: Request) -> int:
    """Prompts of one size have the same number of binary digits in their length; -1 unknown."""
    return -1 if request.prompt_tokens is None else request.prompt_tokens.bit_length()


def by_deployment(run: Run) -> dict[str, list[Request]]:
    """The requests that came to each deployment: all to the router; to another one those that the
    model of its name answered, or that asked for it and that none answered (deployments are named
    after their models, by `serve.app.deployment_names`)."""
    found = defaultdict(list)
    for request in run.requests:
        found[_safe(request.asked if request.model is None else request.model)].append(request)
    return {**found, ROUTER: list(run.requests)}


def _safe(model: str) -> str:
    """A model's name with the characters that a deployment's may have."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", model)
