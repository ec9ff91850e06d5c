"""The embedding store from a shell: import, export, show, forget, re-embed."""

import argparse
import json
import sys
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from deployments.embedding.encoder import DEFAULT_MODEL, Encoder
from deployments.store.errors import NoStore
from deployments.store.evidence import Floats32
from deployments.store.files.exporting import write_history
from deployments.store.files.history import BadRow, read_history
from deployments.store.files.importing import import_history
from deployments.store.sql.database import Database
from deployments.store.sql.forgetting import Selection
from deployments.store.sql.reembedding import reembed
from deployments.store.sql.urls import default_url

_REPORTED = 20  # bad rows of a file that are printed one by one


class _Encoder(Protocol):
    """An embedding model: texts to embeddings."""

    @property
    def name(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    def __call__(self, texts: Sequence[str], /) -> Floats32: ...


class Refused(Exception):
    """The command was not carried out; the message says why."""


def main(
    arguments: Sequence[str] | None = None, encoder: Callable[[str], _Encoder] = Encoder
) -> None:
    """`python -m ops.store import|export|stats|forget|reembed`; exits with 1 if it fails.

    Args:
        arguments: of the command line.
        encoder: makes an embedding model from its name.
    """
    args = _parser().parse_args(arguments)
    try:
        args.run(args, encoder)
    except (Refused, ValueError, OSError) as error:  # OSError: files, and DatabaseUnavailable
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.store", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="import|export|stats|forget|reembed")

    def command(name: str, run: Callable[..., None], about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(run=run)
        sub.add_argument(
            "--store",
            metavar="URL",
            default=default_url(),
            help="sqlite:///path or postgresql://user:password@host/name (default: %(default)s)",
        )
        return sub

    importing = command(
        "import",
        _import,
        "Import histories into a store. All files are checked before anything is written, and "
        "repeating an import changes nothing.",
    )
    importing.add_argument("files", metavar="FILE", nargs="+", help=".json, .jsonl or .parquet")
    importing.add_argument(
        "--name",
        help="name of the import; a new import replaces rows of an earlier one with the same name "
        "(default: FILE without its suffix)",
    )
    importing.add_argument(
        "--skip-bad-rows", action="store_true", help="skip bad rows instead of refusing the file"
    )
    importing.add_argument(
        "--model", help=f"embedding model (default: the store's; for a new store {DEFAULT_MODEL})"
    )
    exporting = command("export", _export, "Export a whole store to a file.")
    exporting.add_argument("file", metavar="FILE", help=".json, .jsonl or .parquet")
    stats = command("stats", _stats, "Show what a store holds.")
    stats.add_argument("--json", action="store_true", help="print JSON")
    forgetting = command(
        "forget",
        _forget,
        "Delete what is known of models. Several options narrow the selection. A running server "
        "follows within seconds; a history named in its configuration is not imported again until "
        "the file changes.",
    )
    forgetting.add_argument("--model", metavar="NAME", help="only what this model did")
    forgetting.add_argument(
        "--source",
        metavar="NAME",
        help="only what came from this source: `answers`, or the name of an import",
    )
    forgetting.add_argument(
        "--before",
        metavar="DATE",
        type=_moment,
        help="only what has not changed since then: 2026-01-31, or 2026-01-31T12:00 (local time)",
    )
    forgetting.add_argument(
        "--dry-run", action="store_true", help="only show what would be deleted"
    )
    forgetting.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    reembedding = command(
        "reembed",
        _reembed,
        "Replace all embeddings with another model's, in one step at the end. An interrupted run "
        "can be repeated and resumes. Stop the server first.",
    )
    reembedding.add_argument(
        "--model", default=DEFAULT_MODEL, help="embedding model (default: %(default)s)"
    )
    return parser


def _import(args: argparse.Namespace, encoder: Callable[[str], _Encoder]) -> None:
    files = [Path(file) for file in args.files]
    names = [args.name or file.stem for file in files]
    if len(set(names)) < len(names):
        raise Refused(
            "two files would be imported under the same name, and the second would replace the "
            "first; import them one at a time, each with its own --name"
        )
    rows = {file: _checked(file, args.skip_bad_rows) for file in files}
    database, embed = _opened(args.store, args.model, encoder)
    try:
        for file in files:
            with tqdm(total=rows[file], desc=file.name, unit=" rows") as bar:
                done = import_history(
                    database,
                    file,
                    embed,
                    name=args.name or file.stem,
                    on_bad_row=(lambda row: None) if args.skip_bad_rows else None,
                    progress=lambda rows, bar=bar: bar.update(rows - bar.n),  # type: ignore[misc]
                )
            left_out = f", {done.bad} bad rows skipped" if done.bad else ""
            print(f"{file}: {done.rows} rows, {done.observations} observations{left_out}")
    finally:
        database.close()


def _checked(file: Path, skip_bad_rows: bool) -> int:
    """The number of good rows in a file; prints the bad ones."""
    bad: list[BadRow] = []

    def report(row: BadRow) -> None:
        bad.append(row)
        if len(bad) <= _REPORTED:
            tqdm.write(str(row), file=sys.stderr)

    rows = sum(1 for _ in tqdm(read_history(file, report), f"checking {file.name}", unit=" rows"))
    if len(bad) > _REPORTED:
        print(f"{file}: and {len(bad) - _REPORTED} more bad rows", file=sys.stderr)
    if bad and not skip_bad_rows:
        raise Refused(
            f"{file}: {len(bad)} bad rows, so nothing was imported; "
            "use --skip-bad-rows to import the others"
        )
    return rows


def _opened(
    url: str, model: str | None, encoder: Callable[[str], _Encoder]
) -> tuple[Database, _Encoder]:
    """The store, created if it does not exist, and its encoder."""
    if model is None:
        try:
            database = Database(url)
            return database, encoder(database.embedding_model)
        except NoStore:
            pass
    embed = encoder(model or DEFAULT_MODEL)
    return Database(url, embed.name, embed.dimensions), embed


def _export(args: argparse.Namespace, encoder: Callable[[str], _Encoder]) -> None:
    database = Database(args.store)
    try:
        models = list(database.stats()["models"])
        if not models:
            raise Refused(f"{database.url} is empty, there is nothing to export")
        with tqdm(total=database.count(), desc=Path(args.file).name, unit=" rows") as bar:
            rows = write_history(args.file, _counted(database.rows(), bar), models)
    finally:
        database.close()
    print(f"{args.file}: {rows} rows")


def _counted(batches: Any, bar: "tqdm[Any]") -> Any:
    for batch in batches:
        yield batch
        bar.update(len(batch))


def _stats(args: argparse.Namespace, encoder: Callable[[str], _Encoder]) -> None:
    database = Database(args.store)
    try:
        stats = database.stats()
    finally:
        database.close()
    print(json.dumps(stats, indent=2) if args.json else _table(stats))


def _table(stats: dict[str, Any]) -> str:
    lines = [
        stats["url"],
        f"embeddings of {stats['embedding_model']} ({stats['dimensions']} dimensions)",
        f"{stats['queries']:,} queries, {stats['outcomes']:,} outcomes, {stats['answers']:,} "
        f"answers awaiting feedback, {stats['bytes'] / 2**20:,.1f} MiB",
        *(f"{answers:,} answers from {source}" for source, answers in stats["sources"].items()),
    ]
    if stats["models"]:
        width = max(5, *map(len, stats["models"]))
        titles = ("queries", "answers", "scored", "quality", "tokens", "seconds")
        lines += ["", f"{'model':{width}}" + "".join(f"{title:>10}" for title in titles)]
    for model, known in stats["models"].items():
        cells = [f"{known[name]:,}" for name in ("queries", "answers", "scored")]
        cells += [_mean(known["quality"], 3), _mean(known["output_tokens"], 0)]
        cells += [_mean(known["seconds"], 2)]
        lines.append(f"{model:{width}}" + "".join(f"{cell:>10}" for cell in cells))
        if len(known["identities"]) > 1:
            lines += [
                f"  {answers:,} answers of {identity or 'an unknown model'}"
                for identity, answers in known["identities"].items()
            ]
    return "\n".join(lines)


def _mean(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:,.{places}f}"


def _forget(args: argparse.Namespace, encoder: Callable[[str], _Encoder]) -> None:
    if args.model is None and args.source is None and args.before is None:
        raise Refused("nothing selected: give --model NAME, --source NAME or --before DATE")
    database = Database(args.store)
    try:
        stats = database.stats()
        selection = Selection(
            _one_of("model", args.model, stats["models"]),
            _one_of("source", args.source, stats["sources"]),
            args.before,
        )
        found = database.forgettable(selection)
        print(
            f"{database.url}: {found['outcomes']:,} outcomes on {found['queries']:,} queries, "
            f"{found['emptied']:,} of which are then deleted too, and {found['answers']:,} answers "
            "awaiting feedback"
        )
        if args.dry_run or not (found["outcomes"] or found["answers"]):
            return
        if not args.yes:
            _confirm()
        database.forget(selection)
    finally:
        database.close()
    print("deleted")


def _moment(value: str) -> float:
    try:
        return datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{value}' is not a date; write 2026-01-31 or 2026-01-31T12:00"
        ) from None


def _one_of(what: str, name: str | None, known: Collection[str]) -> str | None:
    """The name as it is in the store; that of an import may be given without "import:"."""
    for full in (name, f"import:{name}"):
        if full is None or full in known:
            return full
    names = ", ".join(known) or "none"
    raise Refused(f"the store knows no {what} '{name}'; it has: {names}")


def _confirm() -> None:
    try:
        sure = input("Delete them? [y/N] ")
    except EOFError:
        raise Refused(
            "nothing was deleted: there is no terminal to confirm on; use --yes"
        ) from None
    if sure.strip().lower() not in {"y", "yes"}:
        raise Refused("nothing was deleted")


def _reembed(args: argparse.Namespace, encoder: Callable[[str], _Encoder]) -> None:
    Database(args.store).close()  # fails before a model is loaded if there is no store
    embed = encoder(args.model)
    with tqdm(desc="re-embedding", unit=" queries") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        queries = reembed(args.store, embed.name, embed.dimensions, embed, progress)
    print(f"{queries} queries re-embedded with {embed.name}")


if __name__ == "__main__":
    main()
