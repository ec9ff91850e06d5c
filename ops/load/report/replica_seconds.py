"""Replica-seconds: those used, beside those of a scaler that knows the future."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from ops.load.report.clairvoyant import Lifetimes
from ops.load.report.figures import ratio, rounded
from ops.load.report.reading import Run


def replica_seconds(run: Run, clairvoyant: Mapping[str, Lifetimes]) -> dict[str, dict[str, Any]]:
    """For each deployment the replica-seconds `used`, the `clairvoyant` ones, and the `ratio` of
    the two; None where it can't be known. In replica-seconds, from second 0 to the run's end."""
    found = {}
    for name in run.deployments:
        spent, lives = used(run, name), clairvoyant.get(name)
        least = None if lives is None else rounded(sum(end - begin for begin, end in lives))
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
