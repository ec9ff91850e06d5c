"""The program `llm-cores`: all commands together; and each as a program of its own."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer

from ops.cli import asking, load, routing, serving, store, top

DISTRIBUTION = "llm-cores-on-ray-serve"

app = typer.Typer(
    name="llm-cores",
    help="One endpoint over many LLMs, on Ray Serve.",
    epilog="`llm-cores COMMAND --help` shows an example of each command.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # a traceback with local variables could show a secret
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (serving.commands, asking.commands, top.commands, load.commands):
    app.add_typer(commands)
app.add_typer(store.commands, name="store", rich_help_panel=store.PANEL)
app.add_typer(routing.commands, name="routing", rich_help_panel=routing.PANEL)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"llm-cores {version(DISTRIBUTION)}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="show the version, and end"
        ),
    ] = False,
) -> None:
    """What can be given without a command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """`llm-cores`; ends the program.

    Args:
        arguments: of the command line, by default this process's.
    """
    app(arguments, prog_name="llm-cores")


def alone(command: str, module: str, arguments: Sequence[str] | None = None) -> None:
    """One command as a program of its own, `python -m MODULE`; ends the program.

    Args:
        command: its name.
        module: by which it is called.
        arguments: of the command line, by default this process's.
    """
    group: Any = typer.main.get_command(app)
    group.commands[command].main(arguments, prog_name=f"python -m {module}")
