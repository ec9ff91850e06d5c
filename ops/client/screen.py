"""What `llm-cores top` shows: a line on the server, a table of its models, its latest requests."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ops.client.server import Json
from ops.client.text import number, one_line, usd

REQUESTS = 30  # the most that are kept and shown
_MODELS = 30  # the busiest, where there are more
_STYLES = {"closed": "green", "half_open": "yellow", "open": "red"}


def screen(seen: Json, requests: Iterable[Json], height: int | None = None) -> RenderableType:
    """All of it.

    Args:
        seen: an object of `GET /console/live`.
        requests: the latest, newest first.
        height: of the terminal, in lines; None for no limit.
    """
    models = _busiest(seen.get("models") or [])
    left_out = len(seen.get("models") or []) - len(models)
    if height is not None:  # a line for the server, a heading and a gap for each table
        models = models[: max(1, height - 6)]
        left_out = len(seen.get("models") or []) - len(models)
    room = None if height is None else max(0, height - 6 - len(models) - bool(left_out))
    parts: list[RenderableType] = [_server(seen), Text(), _models(models)]
    if left_out:
        parts.append(Text(f"and {left_out:,} more models", "dim"))
    parts += [Text(), _requests(list(requests)[:room])]
    return Group(*parts)


def _server(seen: Json) -> Text:
    models = seen.get("models") or []
    now = [model.get("now") or {} for model in models]
    spent = sum(each.get("usd_per_s") or 0 for each in now)
    wanted = seen.get("performance_requirement")
    parts = [
        f"LLM Cores {_text(seen.get('version'))}",
        _text(seen.get("strategy")) + (f", quality wanted {wanted:g}" if wanted else ""),
        f"routers: {_text(seen.get('routers'))}",
        f"{sum(each.get('requests_per_s') or 0 for each in now):,.1f} requests/s",
        f"{sum(each.get('output_tokens_per_s') or 0 for each in now):,.0f} tokens/s",
        f"{usd(spent * 3600)}/h",
    ]
    caller = seen.get("caller") or {}
    if caller.get("name") and not caller.get("all_traffic"):
        parts.append(f"only traffic of {_text(caller['name'])}")
    return Text(" · ".join(parts), "bold")


def _busiest(models: Sequence[Json]) -> list[Json]:
    def rate(model: Json) -> float:
        return float((model.get("now") or {}).get("requests_per_s") or 0)

    if len(models) <= _MODELS:
        return list(models)
    return sorted(models, key=rate, reverse=True)[:_MODELS]


def _models(models: Iterable[Json]) -> Table:
    columns = "req/s", "tok/s", "err/s", "in flight", "queued", "TTFT p50", "p90", "time p50", "$/h"
    table = _table(["model", "circuit", "replicas"], columns)
    for model in models:
        now = model.get("now") or {}
        first, whole = now.get("first_token_s") or {}, now.get("duration_s") or {}
        errors, spent = now.get("errors_per_s"), now.get("usd_per_s")
        table.add_row(
            Text(_text(model.get("name")), "" if model.get("available") else "dim strike"),
            _circuit(model),
            _replicas(model.get("replicas") or {}),
            number(now.get("requests_per_s")),
            number(now.get("output_tokens_per_s"), 0),
            Text(number(errors), "red" if errors else ""),
            number(model.get("in_flight"), 0),
            number(model.get("queued"), 0),
            _seconds(first.get("p50")),
            _seconds(first.get("p90")),
            _seconds(whole.get("p50")),
            usd(None if spent is None else spent * 3600),
        )
    return table


def _circuit(model: Json) -> Text:
    """The circuit's state; of a model that can't answer otherwise, why."""
    state = _text(model.get("circuit"))
    if not model.get("available") and state == "closed":
        return Text(_text(model.get("status")), "red")
    return Text(state, _STYLES.get(state, ""))


def _replicas(replicas: Json) -> str:
    running, wanted = replicas.get("running"), replicas.get("wanted")
    if running is None:
        return "-"
    return f"{running}" if wanted in (None, running) else f"{running} of {wanted}"


def _requests(requests: Sequence[Json]) -> Table:
    columns = "quality", "tokens", "cost", "first", "time"
    table = _table(["at", "asked", "model", "why"], columns)
    for each in requests:
        failed = each.get("error")
        predicted = each.get("predicted") or {}
        tokens = each.get("completion_tokens")
        table.add_row(
            time.strftime("%H:%M:%S", time.localtime(each["at"])) if each.get("at") else "-",
            _text(each.get("asked")),
            Text(_text(each.get("model")), "red" if failed else "green"),
            Text(_why(each), "red" if failed else "dim", no_wrap=True, overflow="ellipsis"),
            number(predicted.get("quality"), 2),
            "-" if tokens is None else f"{tokens:,}",
            usd(each.get("cost")),
            _seconds(each.get("first_token_s")),
            _seconds(each.get("seconds")),
        )
    return table


def _why(request: Json) -> str:
    """The error, or who broke off, or the reason for the model; the query where it is shown."""
    if error := request.get("error"):
        return f"{_text(request.get('status'))} {_text(error)}"
    parts = [f"after {_text(each)} broke off" for each in request.get("rescued") or ()]
    parts += [_text(request[name]) for name in ("query", "reason") if request.get(name)]
    return " · ".join(parts)


def _table(names: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, expand=True)
    for name in names:
        table.add_column(
            name, no_wrap=True, overflow="ellipsis", ratio=3 if name == "why" else None
        )
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.1f} s"


def _text(value: Any) -> str:
    return "-" if value is None else one_line(str(value))
