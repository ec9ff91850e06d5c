"""Asks a running server how it would route: `llm-cores route`."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.client.server import Json, connected, object_of
from ops.client.text import json_of, number, one_line, usd


def route(
    url: str,
    queries: Sequence[str],
    *,
    models: Sequence[str] | None,
    requirement: float | None,
    as_json: bool,
) -> None:
    """Prints which model each query would go to, and why.

    Args:
        url: the server's.
        queries: one is routed as a chat would be now, several as a batch.
        models: those that may answer; None for all.
        requirement: the quality wanted, 0 to 1; None for the server's own.
        as_json: print the whole reply instead.

    Raises:
        SystemExit: the server refused, or there is none.
    """
    body: Json = {"queries": list(queries)}
    if len(queries) == 1:
        body["as"] = "chat"
    if models is not None:
        body["models"] = list(models)
    if requirement is not None:
        body["router"] = {"performance_requirement": requirement}
    with connected(url) as client:
        reply = object_of(client.post("/v1/route", json=body))
    if as_json:
        print(json_of(reply))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    for query, found in zip(queries, reply["data"], strict=True):
        if len(queries) > 1:
            console.print(Text(one_line(query), "bold", no_wrap=True, overflow="ellipsis"))
        console.print(Text.assemble((one_line(found["model"]), "bold green"), ": ", _why(found)))
        if any("quality" in candidate for candidate in found["candidates"]):
            console.print(_table(found))


def _why(found: Json) -> str:
    return one_line(found.get("reason") or "no reason given")


def _table(found: Json) -> Table:
    """The candidates: what is predicted of each, the chosen one first."""
    candidates = sorted(found["candidates"], key=lambda each: each["model"] != found["model"])
    scored = any("score" in each for each in candidates)
    table = Table(box=None, header_style="dim")
    table.add_column("")
    table.add_column("model", no_wrap=True)
    for name in ("quality", "±", "tokens out", "cost", *(["score"] if scored else [])):
        table.add_column(name, justify="right")
    for each in candidates:
        chosen = each["model"] == found["model"]
        cells = [
            number(each.get("quality"), 3),
            number(each.get("uncertainty"), 3),
            number(each.get("output_tokens"), 0),
            usd(each.get("cost")),
            *([f"{each['score']:.3g}" if each.get("score") is not None else "-"] * scored),
        ]
        mark = "→" if chosen else ""
        style = "bold" if chosen else None
        table.add_row(*map(Text, (mark, one_line(each["model"]), *cells)), style=style)
    return table
