"""The commands `store …`: import, export, show, forget, re-embed."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ops.cli.options import Json, examples
from ops.cli.serving import PANEL as PANEL


def _default_url() -> str:
    from deployments.store.sql.urls import default_url

    return default_url()


def _moment(value: str) -> float:
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise typer.BadParameter(
            f"'{value}' is not a date; write 2026-01-31 or 2026-01-31T12:00"
        ) from None


Store = Annotated[
    str,
    typer.Option(
        metavar="URL",
        default_factory=_default_url,
        show_default="this user's",
        help="sqlite:///path or postgresql://user:password@host/name",
    ),
]

commands = typer.Typer(
    help="The embedding store: what smart routing has learned.",
    epilog=examples("llm-cores store stats"),
    no_args_is_help=True,
)


@commands.command(
    "import",
    epilog=examples(
        "llm-cores store import history.jsonl", "llm-cores store import a.parquet b.json"
    ),
)
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help=".json, .jsonl or .parquet", show_default=False),
    ],
    store: Store,
    name: Annotated[
        str | None,
        typer.Option(
            help="name of the import; a new import replaces rows of an earlier one with the same "
            "name (default: FILE without its suffix)"
        ),
    ] = None,
    skip_bad_rows: Annotated[
        bool, typer.Option("--skip-bad-rows", help="skip bad rows instead of refusing the file")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="embedding model; by default the store's, for a new one all-MiniLM-L6-v2"
        ),
    ] = None,
) -> None:
    """Import histories into a store.

    All files are checked before anything is written. Repeating an import changes nothing but the
    age of scores whose time it doesn't say.
    """
    from ops.store import import_files

    import_files(store, files, name=name, skip_bad_rows=skip_bad_rows, model=model)


@commands.command(epilog=examples("llm-cores store export all.jsonl"))
def export(
    file: Annotated[Path, typer.Argument(help=".json, .jsonl or .parquet", show_default=False)],
    store: Store,
) -> None:
    """Export a whole store to a file."""
    from ops.store import export

    export(store, file)


@commands.command(epilog=examples("llm-cores store stats", "llm-cores store stats --json"))
def stats(store: Store, as_json: Json = False) -> None:
    """Show what a store holds."""
    from ops.store import show

    show(store, as_json=as_json)


@commands.command(
    epilog=examples(
        "llm-cores store forget --model gpt-4o-mini --dry-run",
        "llm-cores store forget --source answers --before 2026-01-31 --yes",
    )
)
def forget(
    store: Store,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="only what this model did")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="only what came from this source: `answers`, or the name of an import",
        ),
    ] = None,
    before: Annotated[
        float | None,
        typer.Option(
            metavar="DATE",
            parser=_moment,
            help="only scores from before then, and what has not changed since: 2026-01-31, or "
            "2026-01-31T12:00 (local time)",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only show what would be deleted")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="don't ask for confirmation")] = False,
) -> None:
    """Delete what is known of models.

    Several options narrow the selection. A running server follows within seconds; a history named
    in its configuration is not imported again until the file changes.
    """
    from ops.store import forget

    forget(store, model=model, source=source, before=before, dry_run=dry_run, yes=yes)


@commands.command(epilog=examples("llm-cores store reembed --model BAAI/bge-small-en-v1.5"))
def reembed(
    store: Store,
    model: Annotated[
        str | None, typer.Option(help="embedding model; by default all-MiniLM-L6-v2")
    ] = None,
) -> None:
    """Replace all embeddings with another model's, in one step at the end.

    An interrupted run can be repeated and resumes. Stop the server first.
    """
    from ops.store import replace_embeddings

    replace_embeddings(store, model=model)
