"""The commands around a server of one's own: `serve`, `check`, `apply`, `keys`."""

from typing import Annotated

import typer

from ops.cli.options import Json, examples

PANEL = "A server of your own"

commands = typer.Typer()


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "llm-cores serve",
        "llm-cores serve --config my.yaml --port 8001",
    ),
)
def serve(
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="a YAML file with `llms:`; the demo without one"),
    ] = None,
    host: Annotated[
        str, typer.Option(help="the address to listen on; 0.0.0.0 means all interfaces")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="the port to listen on")] = 8000,
) -> None:
    """Serve the application on this machine until Ctrl-C."""
    from ops.run import run

    run(config, host, port)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples("llm-cores check my.yaml", "llm-cores check my.yaml --ask --json"),
)
def check(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="a YAML file with `llms:`", show_default=False)
    ],
    ask: Annotated[
        bool,
        typer.Option(
            "--ask",
            help="also request one token or embedding of each hosted model, which the provider "
            "bills",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check whether a configuration would work on this machine.

    Checks all that costs nothing, including whether providers respond; starts no model. Ends with 1
    if there is a problem.
    """
    from ops.check import check

    check(config, ask=ask, as_json=as_json)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples("llm-cores apply my.yaml", "llm-cores apply my.yaml --name llms --restart"),
)
def apply(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="a YAML file with `llms:`", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="the application's name, if several are running")
    ] = None,
    address: Annotated[
        str, typer.Option(help="the Ray cluster's; `auto` finds this machine's")
    ] = "auto",
    restart: Annotated[
        bool, typer.Option("--restart", help="start new processes if needed")
    ] = False,
) -> None:
    """Apply a changed configuration to a running application.

    Hosted models, routing settings and prices change in place, without a new process and without a
    lost request. Anything else needs new processes, and is only done with `--restart`.
    """
    from ops.apply import apply

    apply(config, name=name, address=address, restart=restart)


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples("llm-cores keys team-a", "llm-cores keys prometheus --metrics"),
)
def keys(
    name: Annotated[
        str, typer.Argument(help="the key's name in the configuration", show_default=False)
    ],
    metrics: Annotated[bool, typer.Option("--metrics", help="let it read `GET /metrics`")] = False,
    as_json: Json = False,
) -> None:
    """Create an API key: print it once, with the entry that goes into the configuration."""
    from ops.keys import create

    create(name, metrics=metrics, as_json=as_json)
