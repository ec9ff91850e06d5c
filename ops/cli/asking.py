"""The commands that ask a running server: `ask`, `route`."""

import sys
from typing import Annotated

import typer

from ops.cli.options import DEFAULT_URL, Json, Url, examples

PANEL = "A running server"

Models = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES", help="the models that may answer: `a,b`, or the option once for each"
    ),
]
Requirement = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="the quality wanted, 0 to 1; the server's without it"),
]

commands = typer.Typer()


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        'llm-cores ask "What is 7 plus 5?" --why',
        'llm-cores ask "What is the capital of France?" --models demo-small,demo-large',
        'git diff | llm-cores ask --system "Review this." --requirement 0.9',
    ),
)
def ask(
    prompt: Annotated[
        str | None,
        typer.Argument(help="the question; read from the standard input without one, or if `-`"),
    ] = None,
    system: Annotated[str | None, typer.Option(help="the system message")] = None,
    model: Annotated[str, typer.Option(help="one model's name, or `auto`")] = "auto",
    models: Models = None,
    requirement: Requirement = None,
    why: Annotated[
        bool, typer.Option("--why", help="then show model, reason and cost (on standard error)")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the whole reply as JSON, once it is there")
    ] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Ask a question, and print the answer as it comes."""
    if prompt is None and sys.stdin.isatty():
        raise typer.BadParameter("give a question, or pipe one in", param_hint="PROMPT")
    if model != "auto" and models:
        raise typer.BadParameter("is for --model auto", param_hint="--models")
    from ops.client.asking import Question, ask

    text = _piped() if prompt in (None, "-") else prompt
    if not text or not text.strip():
        raise typer.BadParameter("the question is empty", param_hint="PROMPT")
    ask(url, Question(text, system, model, split(models), requirement), why=why, as_json=as_json)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        'llm-cores route "What is 123 plus 456?"',
        'llm-cores route "What is 7 plus 5?" "Spell house backwards." --requirement 0.8 --json',
    ),
)
def route(
    queries: Annotated[
        list[str],
        typer.Argument(metavar="QUERY…", help="one question, or several", show_default=False),
    ],
    models: Models = None,
    requirement: Requirement = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show which model would answer, and why. No model is asked.

    One question is routed as a chat would be now; several together, at the least cost of all.
    """
    from ops.client.routing import route

    route(url, queries, models=split(models), requirement=requirement, as_json=as_json)


def _piped() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise typer.BadParameter("what is piped in is no text", param_hint="PROMPT") from None


def split(names: list[str] | None) -> list[str] | None:
    """The names in options that may each have several, separated by commas; None without any."""
    return [name.strip() for part in names for name in part.split(",")] if names else None
