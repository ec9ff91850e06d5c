"""The command `routing replay`: what other choices would have cost and scored."""

from typing import Annotated

import typer

from ops.cli.asking import Models, split
from ops.cli.options import Json, examples
from ops.cli.serving import PANEL as PANEL

commands = typer.Typer(
    help="Smart routing on past requests.",
    epilog=examples("llm-cores routing replay --config my.yaml"),
    no_args_is_help=True,
)


@commands.callback()
def _group() -> None:
    """Keeps `replay` a command, although it is the only one."""


@commands.command(
    epilog=examples(
        "llm-cores routing replay --config my.yaml --requirement 0.8 --requirement 0.9",
        "llm-cores routing replay --config my.yaml --models gpt-4o-mini,gpt-4o --json",
    )
)
def replay(
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="a YAML file with `llms:`; the demo without one"),
    ] = None,
    requirement: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            max=1,
            help="a mean quality to hold, 0 to 1; may be repeated; default: as configured",
        ),
    ] = None,
    models: Models = None,
    as_json: Json = False,
) -> None:
    """Estimate what other requirements or models would have cost and scored on past requests.

    Reads the store of the configuration, and calls no model. Shows quality, cost, and what is saved
    against always asking the best model, with 95 % intervals.
    """
    from ops.routing import replay

    replay(config, requirements=requirement or (), models=split(models), as_json=as_json)
