"""What `llm-cores top` shows: a line on the server, a table of its models, its latest requests."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ops.client.server import Json
from ops.client.text import number, one_line, usd

REQUESTS = 30  # the most that are kept and shown
_MODELS = 30  # the busiest, where there are more
# The columns with figures, and the least width at which each is shown.
_FIGURES = {
    "req/s": 0,
    "tok/s": 0,
    "err/s": 0,
    "in flight": 0,
    "queued": 120,
    "first p50": 0,
    "first p90": 120,
    "time p50": 100,
    "$/h": 0,
}
_OF_A_REQUEST = {"quality": 100, "tokens": 90, "cost": 0, "first": 120, "time": 0}
_STYLES = {"closed": "green", "half_open": "yellow", "open": "red"}


def screen(
    seen: Json, requests: Iterable[Json], width: int, height: int | None = None
) -> RenderableType:
    """All of it.

    Args:
        seen: an object of `GET /console/live`.
        requests: the latest, newest first.
        width: in characters; what is less telling is left out of a narrow one.
        height: in lines; None for no limit.
    """
    models = _busiest(seen.get("models") or [])
    left_out = len(seen.get("models") or []) - len(models)
    if height is not None:  # a line for the server, a heading and a gap for each table
        models = models[: max(1, height - 6)]
        left_out = len(seen.get("models") or []) - len(models)
    room = None if height is None else max(0, height - 6 - len(models) - bool(left_out))
    parts: list[RenderableType] = [_server(seen), Text(), _models(models, width)]
    if left_out:
        parts.append(Text(f"and {left_out:,} more models", "dim"))
    parts += [Text(), _requests(list(requests)[:room], width)]
    return Group(*parts)


def _server(seen: Json) -> Text:
    models = seen.get("models") or []
    now = [model.get("now") or {} for model in models]
    spent = sum(each.get("usd_per_s") or 0 for each in now)
    wanted = seen.get("performance_requirement") if seen.get("smart") else None
    parts = [
        f"LLM Cores {_text(seen.get('version'))}",
        _text(seen.get("strategy")) + (f", quality wanted {wanted:g}" if wanted else ""),
        f"routers: {_text(seen.get('routers'))}"
        + (" (only one is seen now)" if seen.get("all_routers") is False else ""),
        f"{sum(each.get('requests_per_s') or 0 for each in now):,.1f} requests/s",
        f"{sum(each.get('output_tokens_per_s') or 0 for each in now):,.0f} tokens/s",
        f"{usd(spent * 3600)}/h",
    ]
    caller = seen.get("caller") or {}
    if caller.get("name") and not caller.get("all_traffic"):
        parts.append(f"only traffic of {_text(caller['name'])}")
    return Text(" · ".join(parts), "bold", no_wrap=True, overflow="ellipsis")


def _busiest(models: Sequence[Json]) -> list[Json]:
    def rate(model: Json) -> float:
        return float((model.get("now") or {}).get("requests_per_s") or 0)

    if len(models) <= _MODELS:
        return list(models)
    return sorted(models, key=rate, reverse=True)[:_MODELS]


def _models(models: Iterable[Json], width: int) -> Table:
    table = _table({"model": 0, "circuit": 0, "replicas": 90, **_FIGURES}, width)
    for model in models:
        now = model.get("now") or {}
        first, whole = now.get("first_token_s") or {}, now.get("duration_s") or {}
        errors, spent = now.get("errors_per_s"), now.get("usd_per_s")
        _add(
            table,
            {
                "model": Text(
                    _text(model.get("name")), "" if model.get("available") else "dim strike"
                ),
                "circuit": _circuit(model),
                "replicas": _replicas(model.get("replicas") or {}),
                "req/s": number(now.get("requests_per_s")),
                "tok/s": number(now.get("output_tokens_per_s"), 0),
                "err/s": Text(number(errors), "red" if errors else ""),
                "in flight": number(model.get("in_flight"), 0),
                "queued": number(model.get("queued"), 0),
                "first p50": _seconds(first.get("p50")),
                "first p90": _seconds(first.get("p90")),
                "time p50": _seconds(whole.get("p50")),
                "$/h": usd(None if spent is None else spent * 3600),
            },
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


def _requests(requests: Sequence[Json], width: int) -> Table:
    columns = {"at": 0, "asked": 100, "model": 0, "why": 0, **_OF_A_REQUEST}
    table = _table(columns, width)
    for each in requests:
        failed = each.get("error")
        predicted = each.get("predicted") or {}
        _add(
            table,
            {
                "at": time.strftime("%H:%M:%S", time.localtime(each["at"])),
                "asked": _text(each.get("asked")),
                "model": Text(_text(each.get("model")), "red" if failed else "green"),
                "why": Text(_why(each), "red" if failed else "dim"),
                "quality": number(predicted.get("quality"), 2),
                "tokens": number(each.get("completion_tokens"), 0),
                "cost": usd(each.get("cost")),
                "first": _seconds(each.get("first_token_s")),
                "time": _seconds(each.get("seconds")),
            },
        )
    return table


def _why(request: Json) -> str:
    """The error, or who broke off, or the reason for the model; the query where it is shown."""
    if error := request.get("error"):
        return f"{_text(request.get('status'))} {_text(error)}"
    parts = [
        f"{_text(each.get('from'))} broke off ({_text(each.get('error'))})"
        for each in request.get("rescued") or ()
    ]
    parts += [_text(request[name]) for name in ("query", "reason") if request.get(name)]
    return " · ".join(parts)


def _table(columns: Mapping[str, int], width: int) -> Table:
    """An empty table of the columns for which it is wide enough."""
    table = Table(box=None, header_style="dim", pad_edge=False, expand=True)
    for name, least in columns.items():
        if width < least:
            continue
        if name in _FIGURES or name in _OF_A_REQUEST:
            table.add_column(name, justify="right", no_wrap=True)
        elif name == "why":
            table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=1)
        else:
            table.add_column(name, no_wrap=True, overflow="ellipsis")
    return table


def _add(table: Table, cells: Mapping[str, str | Text]) -> None:
    table.add_row(*(cells[str(column.header)] for column in table.columns))


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:,.0f} ms" if value < 1 else f"{value:,.1f} s"


def _text(value: Any) -> str:
    return "-" if value is None else one_line(str(value))
