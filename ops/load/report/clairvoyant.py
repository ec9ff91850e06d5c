"""A scaler that knows the future: how few replicas would have done without any waiting."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from ops.load.report.figures import rounded
from ops.load.report.reading import Request, Run
from ops.load.report.services import service_times, slowness

Lifetimes = Sequence[tuple[float, float]]
"""Of each replica, when it begins to start and when it ends."""

ROUTER = "Router"


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
    median service time.

    Returns:
        Of the deployments of which `run.json` says the places and the start time, and that answered
        a request, the replicas from second 0 to the run's end.
    """
    requests, end, found = by_deployment(run), run.outline.ended, {}
    for name, capacity in run.outline.scaled.items():
        services = service_times(requests.get(name, ()), capacity)
        if services and capacity.places is not None and capacity.start_s is not None:
            spans = [(at, min(at + took, end)) for at, took in services]
            least = capacity.min_replicas
            above = _above(spans, capacity.places, capacity.start_s, least)
            found[name] = [(0.0, end)] * least + above
    return found


def slowed(run: Run, clairvoyant: Mapping[str, Lifetimes]) -> dict[str, float]:
    """Of each deployment that has a clairvoyant, how many times as long as that one assumes its
    tokens took, in the median."""
    requests = by_deployment(run)
    found = {name: slowness(requests[name], run.outline.scaled[name]) for name in clairvoyant}
    return {name: rounded(times) for name, times in found.items() if times is not None}


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
