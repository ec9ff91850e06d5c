"""`GET /console/tradeoff`: the reply."""

from collections.abc import Mapping, Sequence
from typing import Any

from deployments.telemetry.instruments import (
    ALWAYS_BEST,
    CHOSEN,
    COMPARED_COST,
    HELD,
    REQUIREMENT,
)
from deployments.telemetry.samples import Series
from serve.access.keys import Caller
from serve.dispatch.candidates import AUTO, candidates
from serve.http.console.live import sees_everything
from serve.http.failures import from_status
from serve.http.server import Server

_THOUSAND = 1000


async def curve(server: Server, caller: Caller) -> dict[str, Any]:
    """The curve of a caller's models; what was saved by all of them, where it may see that.

    Raises:
        LLMError: there is nothing to predict from; the message says what to do.
    """
    core = server.core
    if not core.has_smart:
        raise from_status(
            404,
            "this server has no smart routing, so it predicts no cost and no quality; its "
            "configuration needs `llms.router.strategy: smart` or `llms.store`",
        )
    names = candidates(AUTO, None, caller.allowed(core.models))
    found = await core.smart.tradeoffs.of(names)
    if found is None:
        raise from_status(
            404,
            "the store knows no scored answers yet; import a history (`llms.store.history`) or "
            "score answers with POST /v1/feedback, and try again in a minute",
        )
    wanted = core.settings.performance_requirement
    quality, cost = found.at(wanted)
    models: list[dict[str, Any]] = [
        {"name": name, "quality": quality, "usd_per_1000": _THOUSAND * cost}
        for name, (quality, cost) in zip(names, found.models, strict=True)
    ]
    return {
        "points": [
            {
                "performance_requirement": point.requirement,
                "quality": point.quality,
                "usd_per_1000": _THOUSAND * point.cost,
                "shares": {names[column]: share for column, share in point.shares.items()},
            }
            for point in found.points
        ],
        "models": models,
        "now": {
            "performance_requirement": wanted,
            "quality": quality,
            "usd_per_1000": _THOUSAND * cost,
        },
        "best": max(models, key=lambda model: (model["quality"], -model["usd_per_1000"])),
        "saved": await _saved(server) if sees_everything(caller) else None,
        "queries": found.queries,
        "estimate": "predicted",
    }


async def _saved(server: Server) -> dict[str, Any] | None:
    """What was saved since the replicas started; None if nothing was chosen by prediction yet."""
    totals = await server.view.totals(COMPARED_COST.name, REQUIREMENT.name)
    compared, held = totals[COMPARED_COST.name], totals[REQUIREMENT.name]
    chosen, best = (_sum(compared, "_total", each) for each in (CHOSEN, ALWAYS_BEST))
    answers = int(_sum(held, "_count", HELD))
    if not answers:
        return None
    share = (best - chosen) / best if best > 0 else None
    return {"usd": best - chosen, "share": share, "answers": answers}


def _sum(samples: Mapping[Series, float], ends: str, value: str) -> float:
    """The sum of the series whose names end so, and that have this value of a label."""
    values: Sequence[float] = [
        count
        for (name, labels), count in samples.items()
        if name.endswith(ends) and value in dict(labels).values()
    ]
    return sum(values)
