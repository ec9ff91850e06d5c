"""The embedding store from a shell: import, export, show, forget, re-embed."""

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deployments.embedding.encoder import DEFAULT_MODEL, Encoder
from deployments.store.errors import NoStore
from deployments.store.files.exporting import write_history
from deployments.store.files.history import BadRow, read_history
from deployments.store.files.importing import import_history
from deployments.store.sql.database import Database
from deployments.store.sql.forgetting import Selection
from deployments.store.sql.reembedding import reembed
from ops.cli.app import alone

_REPORTED = 20  # bad rows of a file that are printed one by one


class Refused(Exception):
    """The command was not carried out; the message says why."""


@contextmanager
def _explained() -> Iterator[None]:
    """Ends the program with one line for what was refused or failed."""
    try:
        yield
    except BrokenPipeError:  # whoever read the output has left
        raise
    except (Refused, ValueError, OSError) as error:  # OSError: files, and DatabaseUnavailable
        sys.exit(str(error))


@_explained()
def import_files(
    url: str, files: Sequence[Path], *, name: str | None, skip_bad_rows: bool, model: str | None
) -> None:
    """Imports histories. All are checked before anything is written.

    Args:
        url: the store's.
        files: the histories.
        name: of the import; by default each file's, without its suffix.
        skip_bad_rows: instead of refusing the file.
        model: the embedding model; by default the store's.
    """
    names = [name or file.stem for file in files]
    if len(set(names)) < len(names):
        raise Refused(
            "two files would be imported under the same name, and the second would replace the "
            "first; import them one at a time, each with its own --name"
        )
    rows = {file: _checked(file, skip_bad_rows) for file in files}
    database, embed = _opened(url, model)
    try:
        for file in files:
            with tqdm(total=rows[file], desc=file.name, unit=" rows") as bar:
                done = import_history(
                    database,
                    file,
                    embed,
                    name=name or file.stem,
                    on_bad_row=(lambda row: None) if skip_bad_rows else None,
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


def _opened(url: str, model: str | None) -> tuple[Database, Encoder]:
    """The store, created if it does not exist, and its encoder."""
    if model is None:
        try:
            database = Database(url)
            return database, Encoder(database.embedding_model)
        except NoStore:
            pass
    embed = Encoder(model or DEFAULT_MODEL)
    return Database(url, embed.name, embed.dimensions), embed


@_explained()
def export(url: str, file: Path) -> None:
    """Writes a whole store to a file."""
    database = Database(url)
    try:
        models = list(database.stats()["models"])
        if not models:
            raise Refused(f"{database.url} is empty, there is nothing to export")
        with tqdm(total=database.count(), desc=file.name, unit=" rows") as bar:
            rows = write_history(file, _counted(database.rows(), bar), models)
    finally:
        database.close()
    print(f"{file}: {rows} rows")


def _counted(batches: Any, bar: "tqdm[Any]") -> Any:
    for batch in batches:
        yield batch
        bar.update(len(batch))


@_explained()
def show(url: str, *, as_json: bool) -> None:
    """Prints what a store holds."""
    database = Database(url)
    try:
        stats = database.stats()
    finally:
        database.close()
    print(json.dumps(stats, indent=2) if as_json else _table(stats))


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
        lines += [
            f"  {shape}: {_mean(means['output_tokens'], 0)} tokens, {_mean(means['seconds'], 2)} s"
            for shape, means in known["shapes"].items()
        ]
        if len(known["identities"]) > 1:
            lines += [
                f"  {answers:,} answers of {identity or 'an unknown model'}"
                for identity, answers in known["identities"].items()
            ]
    return "\n".join(lines)


def _mean(value: float | None, places: int) -> str:
    return "-" if value is None else f"{value:,.{places}f}"


@_explained()
def forget(
    url: str,
    *,
    model: str | None,
    source: str | None,
    before: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Deletes what is known of models, once that is confirmed.

    Args:
        url: the store's.
        model: only what this model did.
        source: only what came from this source.
        before: only scores from before this time, in Unix seconds, and what has not changed since.
        dry_run: only show what would be deleted.
        yes: don't ask.
    """
    if model is None and source is None and before is None:
        raise Refused("nothing selected: give --model NAME, --source NAME or --before DATE")
    database = Database(url)
    try:
        stats = database.stats()
        selection = Selection(
            _one_of("model", model, stats["models"]),
            _one_of("source", source, stats["sources"]),
            before,
        )
        found = database.forgettable(selection)
        print(
            f"{database.url}: {found['outcomes']:,} outcomes on {found['queries']:,} queries, "
            f"{found['emptied']:,} of which are then deleted too, and {found['answers']:,} answers "
            "awaiting feedback"
        )
        if dry_run or not any(found.values()):
            return
        if not yes:
            _confirm()
        database.forget(selection)
    finally:
        database.close()
    print("deleted")


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


@_explained()
def replace_embeddings(url: str, *, model: str | None) -> None:
    """Replaces all embeddings with those of another model; by default of the one that ships."""
    Database(url).close()  # fails before a model is loaded if there is no store
    embed = Encoder(model or DEFAULT_MODEL)
    with tqdm(desc="re-embedding", unit=" queries") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        queries = reembed(url, embed.name, embed.dimensions, embed, progress)
    print(f"{queries} queries re-embedded with {embed.name}")


if __name__ == "__main__":
    alone("store", "ops.store")
