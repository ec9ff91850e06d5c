"""`GET /console/live`: the reply, made of what all routers report and what this one knows."""

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from math import floor, isnan, log10
from typing import Any

import numpy as np

from deployments.config import ModelConfig
from deployments.telemetry.conventions import provider_of
from serve.access.keys import Caller
from serve.http.server import Server
from serve.telemetry.cluster import STATES, Found
from serve.telemetry.history import POINT_S, RATES, SERIES, Floats, Percentiles, Traffic
from serve.telemetry.recent import Record
from serve.telemetry.view import Seen

MOST_REQUESTS = 100
_DIGITS = 4
_PACKAGE = "llm-cores-on-ray-serve"


def reply(
    server: Server, caller: Caller, seen: Seen, found: Found | None, after: str
) -> dict[str, Any]:
    """What a caller may see: all of it with a key that may read metrics, or on a server without
    keys; otherwise its own requests, and what its models do for it.

    Args:
        server: this router's.
        caller: who asks.
        seen: what all routers report.
        found: what Ray knows of the replicas.
        after: the cursor of the reply before; "" for none.
    """
    everything = sees_everything(caller)
    settings, models = server.core.settings, caller.allowed(server.core.models)
    grouped = server.availability.by_deployment(server.core.models)
    shared = {name for names in grouped.values() if len(names) > 1 for name in names}
    mine = [each for each in seen.requests if everything or each[1]["key"] == caller.name]
    own = None if everything else OwnTraffic([record for _, record in mine])
    return {
        "at": round(time.time(), 3),
        "version": _version(),
        "strategy": settings.strategy,
        "performance_requirement": settings.performance_requirement,
        "smart": server.core.has_smart,
        "caller": {"name": caller.name, "all_traffic": everything},
        "shows_queries": settings.show_queries,
        "routers": seen.history.routers if seen.whole else 1,
        "all_routers": seen.whole,
        "models": [
            _model(server, config, seen, found, own, shared=config.name in shared)
            for config in models.values()
        ],
        "history": _history(seen, models) if own is None else own.history(models),
        "requests": _requests(mine, seen.life, after, show_queries=settings.show_queries),
        "cursor": f"{seen.life}.{seen.requests[-1][0] if seen.requests else 0}",
    }


def sees_everything(caller: Caller) -> bool:
    """Whether a caller sees what others do, too."""
    return caller.name is None or caller.metrics


def _requests(
    numbered: Sequence[tuple[int, Record]], life: str, after: str, *, show_queries: bool
) -> list[Record]:
    """The requests after a cursor, newest first."""
    known, _, number = after.partition(".")
    if known == life and number.isdecimal():
        numbered = [each for each in numbered if each[0] > int(number[:18])]
    # Those of one millisecond by their numbers.
    newest = sorted(numbered, key=lambda each: (each[1]["at"], each[0]), reverse=True)
    shown = [record for _, record in newest[:MOST_REQUESTS]]
    # It may have been switched off meanwhile.
    return shown if show_queries else [{**record, "query": None} for record in shown]


def _model(
    server: Server,
    config: ModelConfig,
    seen: Seen,
    found: Found | None,
    own: "OwnTraffic | None",
    *,
    shared: bool,
) -> dict[str, Any]:
    """A model as it is now; `own` is the traffic of a caller who sees no other, and `shared` says
    whether other models are in its deployment."""
    name = config.name
    state, price = server.readiness.state(name), server.core.prices.get(name)
    traffic = seen.history.models.get(name)
    now = _now(traffic) if own is None else own.now(name)
    if price is None:
        now["usd_per_s"] = None
    deployment = server.availability.deployment_of(name)
    asleep = server.availability.sleeps(name)
    return {
        "name": name,
        "provider": provider_of(config.backend),
        "available": state.available,
        "status": ("asleep" if asleep else "available") if state.available else "unavailable",
        "deployment_status": state.status,
        "message": state.message,
        "circuit": _circuit(server, name, seen),
        "replicas": _replicas(server, name, deployment, found),
        # What others have in progress is theirs.
        "in_flight": (traffic.in_flight if traffic else 0) if own is None else None,
        "queued": None if own is not None or shared else seen.queued.get(deployment, 0),
        "cost_per_input_token": price and price.input,
        "cost_per_output_token": price and price.output,
        "context_window": server.windows.known.get(name),
        "capabilities": sorted(config.abilities),
        "now": now,
    }


def _replicas(
    server: Server, name: str, deployment: str, found: Found | None
) -> dict[str, int | None]:
    if found is None:
        counts: Mapping[str, int] = {"running": server.availability.states[name].replicas}
    else:
        counts = dict(zip(STATES, found.replicas.get(deployment, ()), strict=False))
    return {state: counts.get(state) for state in ("running", "starting", "wanted")}


def _circuit(server: Server, name: str, seen: Seen) -> str:
    circuits = server.fleet.circuits
    if circuits.is_open(name):
        return "open" if circuits.rests(name) else "half_open"
    return "open" if name in seen.open_circuits else "closed"


def _now(traffic: Traffic | None) -> dict[str, Any]:
    if traffic is None:
        return {**dict.fromkeys(RATES, 0.0), "first_token_s": _NONE, "duration_s": _NONE}
    rates = {name: short(rate) for name, rate in zip(RATES, traffic.rates, strict=True)}
    measured = {"first_token_s": traffic.first_token, "duration_s": traffic.duration}
    return {**rates, **{name: _percentiles(each) for name, each in measured.items()}}


_NONE = {"p50": None, "p90": None}


def _percentiles(found: Percentiles) -> dict[str, float | None]:
    return {"p50": short(found.p50), "p90": short(found.p90)}


def _history(seen: Seen, models: Mapping[str, Any]) -> dict[str, Any]:
    history = seen.history
    return {
        "seconds_per_point": POINT_S,
        "times": [history.begins + POINT_S * number for number in range(history.points)],
        "models": {
            name: dict(zip(SERIES, shortened(traffic.past), strict=True))
            for name, traffic in history.models.items()
            if name in models and traffic.past is not None
        },
    }


class OwnTraffic:
    """What one key's requests were, as far back as they are kept.

    Args:
        records: its requests.
        now: in seconds since 1970.
    """

    def __init__(self, records: Sequence[Record], now: float | None = None) -> None:
        self._now = time.time() if now is None else now
        self._by_model: dict[str, list[Record]] = {}
        for record in records:
            if record["model"] is not None:
                self._by_model.setdefault(record["model"], []).append(record)
        last = floor(self._now / POINT_S)
        oldest = min((record["at"] for record in records), default=self._now)
        self._first = max(last - 299, floor(oldest / POINT_S))
        self._points = max(last - self._first, 0)

    def now(self, model: str) -> dict[str, Any]:
        """The rates of the last ten seconds, and how long it took in the last minute."""
        records = self._by_model.get(model, [])
        newest = [record for record in records if record["at"] > self._now - 10]
        minute = [record for record in records if record["at"] > self._now - 60]
        return {
            **{name: short(sum(_amount(name, r) for r in newest) / 10) for name in RATES},
            **{
                shown: {
                    f"p{percent}": short(_percentile([r[of] for r in minute], percent))
                    for percent in (50, 90)
                }
                for shown, of in (("first_token_s", "first_token_s"), ("duration_s", "seconds"))
            },
        }

    def history(self, models: Mapping[str, Any]) -> dict[str, Any]:
        """The same for each two seconds of the last ten minutes."""
        begins = range(self._first, self._first + self._points)
        return {
            "seconds_per_point": POINT_S,
            "times": [POINT_S * tick for tick in begins],
            "models": {
                name: self._series(records)
                for name, records in self._by_model.items()
                if name in models and self._points
            },
        }

    def _series(self, records: Sequence[Record]) -> dict[str, list[float | None]]:
        rates = np.zeros((len(RATES), self._points))
        first: list[list[float | None]] = [[] for _ in range(self._points)]
        for record in records:
            place = floor(record["at"] / POINT_S) - self._first
            if 0 <= place < self._points:
                rates[:, place] += [_amount(name, record) / POINT_S for name in RATES]
                first[place].append(record["first_token_s"])
        return {
            **dict(zip(RATES, shortened(rates), strict=True)),
            "first_token_s_p50": [short(_percentile(each, 50)) for each in first],
            "in_flight": [None] * self._points,
        }


def _amount(name: str, record: Record) -> float:
    """What a request adds to a rate."""
    match name:
        case "requests_per_s":
            return 1.0
        case "errors_per_s":
            return float(record["error"] not in (None, "cancelled"))
        case "output_tokens_per_s":
            return float(record["completion_tokens"] or 0)
        case _:
            return float(record["cost"] or 0.0)


def _percentile(values: Sequence[float | None], percent: int) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.percentile(known, percent)) if known else None


def short(value: float | None) -> float | None:
    """A number with the digits that a page shows; None for NaN."""
    if value is None or isnan(value):
        return None
    if value == 0:
        return 0.0
    return round(value, _DIGITS - 1 - floor(log10(abs(value))))


def shortened(values: Floats) -> list[list[float | None]]:
    """The rows of an array, likewise."""
    with np.errstate(divide="ignore"):
        exponent = np.where(values == 0, 0.0, np.floor(np.log10(np.abs(values))))
    scale = 10.0 ** (_DIGITS - 1 - exponent)
    rows: list[list[float | None]] = (np.round(values * scale) / scale).tolist()
    return rows


def _version() -> str | None:
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:  # it runs from its source
        return None
