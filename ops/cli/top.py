"""The command `top`: what a running server is doing."""

from typing import Annotated

import typer

from ops.cli.asking import PANEL
from ops.cli.options import DEFAULT_URL, Json, Url, examples

commands = typer.Typer()


@commands.command(
    rich_help_panel=PANEL, epilog=examples("llm-cores top", "llm-cores top --once --json")
)
def top(
    once: Annotated[bool, typer.Option("--once", help="show it once, and end")] = False,
    seconds: Annotated[float, typer.Option(min=0.2, max=3600, help="between two looks")] = 1.0,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show the models and the latest requests of all routers, until Ctrl-C.

    Reads what the server's console shows. Numbers are those of the last seconds.
    """
    from ops.client.top import top

    top(url, once=once, seconds=seconds, as_json=as_json)
