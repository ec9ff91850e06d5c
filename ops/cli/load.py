"""The command `load`: load tests."""

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.asking import PANEL
from ops.cli.options import examples
from ops.client import KEY_VARIABLE

commands = typer.Typer()


@commands.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "llm-cores load --url http://localhost:8000 --profile spike",
        "llm-cores load --config my.yaml --out build/load/mine",
    ),
)
def load(
    url: Annotated[
        str | None, typer.Option(help="a running service; by default one is started")
    ] = None,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="what is started; the demo without it")
    ] = None,
    growing_cluster: Annotated[
        bool,
        typer.Option(
            "--growing-cluster",
            help="start it on a cluster whose nodes come and go; has a config and a profile of its "
            "own",
        ),
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(help="a YAML file, or the name of one that ships, such as `spike`"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="a new folder; default: build/load/PROFILE-TIME"),
    ] = None,
    key_variable: Annotated[
        str, typer.Option(help="the environment variable that holds the service's key")
    ] = KEY_VARIABLE,
    remote: Annotated[
        bool,
        typer.Option("--remote", help="allow a URL or models of other machines, which pay for it"),
    ] = False,
    web: Annotated[
        int | None,
        typer.Option(metavar="PORT", help="show Locust's page meanwhile, on this machine"),
    ] = None,
) -> None:
    """Run a load test, and write a folder with its report.

    Without a URL it serves the application itself, on a free port (with `--growing-cluster` on
    nodes that come and go), and stops it afterwards. The last line is JSON. After Ctrl-C the folder
    has what was until then, and the exit status is 130. Needs the extra `[load]`.
    """
    if url and config:
        raise typer.BadParameter("not allowed with --url", param_hint="--config")
    if growing_cluster and url:
        raise typer.BadParameter(
            "leave out --url, it starts the application", param_hint="--growing-cluster"
        )
    from ops.load.command import load

    load(
        url=url,
        config=config,
        growing_cluster=growing_cluster,
        profile=profile,
        out=out,
        key_variable=key_variable,
        remote=remote,
        web=web,
    )
