"""Replica-seconds: those used, and those that a scaler which knows the future would use."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ops.load.report.figures import ratio, rounded
from ops.load.report.reading import Request, Run

ROUTER = "Router"
_FASTEST = 0.1


def replica_seconds(run: Run) -> dict[str, dict[str, Any]]:
    """For each deployment the replica-seconds `used`, the `clairvoyant` ones, and the `ratio` of
    the two; None where it can't be known. In replica-seconds, from second 0 to the run's end."""
    requests, found = by_deployment(run), {}
    for name in run.deployments:
        spent = used(run, name)
        least = clairvoyant(run, name, requests.get(name, ()))
        found[name] = {
            "used_replica_s": spent,
            "clairvoyant_replica_s": least,
            "ratio": ratio(spent, least) if spent is not None and least else None,
        }
    return found


def used(run: Run, deployment: str) -> float | None:
    """The integral of the replicas that held resources: starting, running and stopping ones.

    A sample counts until the next one that could be read, and the first one also before it. None
    without samples.
    """
    known = [
        (sample.at, counts.replicas)
        for sample in run.read
        if (counts := sample.deployments.get(deployment)) and counts.replicas is not None
    ]
    if not known:
        return None
    end = run.outline.ended
    moments = [0.0, *(min(max(at, 0.0), end) for at, _ in known[1:]), end]
    spans = [later - earlier for earlier, later in pairwise(moments)]
    return rounded(sum(n * span for (_, n), span in zip(known, spans, strict=True)))


def clairvoyant(run: Run, deployment: str, requests: Sequence[Request]) -> float | None:
    """The least replica-seconds with which no request would have waited for a place.

    The scaler knows when each request comes and how long it takes. So each request gets a place
    when it is due and holds it for its service time (`service_times`); with `c(t)` places held,
    `n(t) = max(min_replicas, ceil(c(t) / places))` replicas are needed. The n-th replica is started
    `start_s` seconds before it is needed, and is kept in between if it is needed again within
    `start_s`; else it ends at once. It is counted while it starts and while it runs.

    This is a lower bound, which no scaler that can't see the future reaches. It assumes that
    requests can be moved between replicas (the ceiling packs them), that places don't slow one
    another down, that a replica stops at once, and that a request which failed would have taken the
    median service time. It doesn't know of requests that were dropped.

    Args:
        requests: the deployment's, see `by_deployment`.

    Returns:
        Replica-seconds until the run's end; None if `run.json` doesn't say the places and the start
        time, or none of the requests was answered.
    """
    capacity = run.outline.scaled.get(deployment)
    if capacity is None or capacity.places is None or capacity.start_s is None:
        return None
    services = service_times(requests)
    if not services:
        return None
    end = run.outline.ended
    spans = [(at, min(at + took, end)) for at, took in services]
    above = _above(spans, capacity.places, capacity.start_s, capacity.min_replicas)
    return rounded(capacity.min_replicas * end + above)


def _above(spans: Sequence[tuple[float, float]], places: int, start_s: float, least: int) -> float:
    """The replica-seconds of the replicas above the least number, if each span takes a place."""
    # At the same moment, ends come before beginnings: a place that is given back is free.
    events = [(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans]
    total, held, replicas = 0.0, 0, least
    stopped: dict[int, float] = {}
    for moment, change in sorted(events):
        held += change
        needed = max(least, -(-held // places))
        while replicas < needed:
            replicas += 1
            idle = moment - stopped.get(replicas, float("-inf"))
            # Kept, or started anew: at the beginning of the run no earlier than that.
            total += min(idle, start_s, moment) - moment
        while replicas > needed:
            stopped[replicas] = moment
            replicas -= 1
            total += moment
    return total


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
