"""What several commands share: options, and how help shows examples."""

from typing import Annotated

import typer

from ops.client import KEY_VARIABLE, URL_VARIABLE

DEFAULT_URL = "http://localhost:8000"

Url = Annotated[
    str,
    typer.Option(
        envvar=URL_VARIABLE,
        metavar="URL",
        help=f"the server; its API key, if it wants one, is read from {KEY_VARIABLE}",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]


def examples(*lines: str) -> str:
    """The end of a command's help.

    Args:
        lines: command lines, each complete.
    """
    return "\n".join(["Examples:", "", "```shell", *lines, "```"])
