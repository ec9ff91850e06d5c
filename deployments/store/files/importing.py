"""Importing a history into the database: in bounded transactions, never counted twice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from deployments.store.agreement import digest_of
from deployments.store.evidence import Floats32
from deployments.store.files.history import BadRow, History, Row, read_history
from deployments.store.observations import Observation, key_of, stored_text
from deployments.store.sql.database import Database

_CHUNK = 256  # rows in one transaction: short enough for others to write in between

Embed = Callable[[Sequence[str]], Floats32]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: rows read, observations written, bad rows skipped."""

    rows: int
    observations: int
    bad: int


def import_history(
    database: Database,
    history: History,
    embed: Embed,
    *,
    name: str,
    on_bad_row: Callable[[BadRow], None] | None = None,
    progress: Callable[[int], None] | None = None,
    written: Callable[[list[int]], None] | None = None,
) -> Imported:
    """Writes a history, from a file or from objects, to the database.

    Rows of one query are averaged by count. They replace what an import of this name said before
    about the same model and query, so an import can be repeated, and repeating completes one that
    was interrupted. What an earlier import of this name said about other queries stays.

    Args:
        database: where to write.
        history: as in `read_history`.
        embed: texts to embeddings (b, d), by the database's embedding model; called only for
            queries that the database does not have.
        name: of the import; the observations' source is "import:<name>".
        on_bad_row: called with each row that can't be used, which is then skipped; without it, the
            first one is raised, and what was written before it stays.
        progress: called with the number of rows done so far, after each transaction.
        written: called with the numbers of the queries of each transaction, after its commit.

    Raises:
        BadRow, ValueError, FileNotFoundError: as in `read_history`.
        ValueError: the name is empty or not printable.
    """
    if not name or not name.isprintable():
        raise ValueError(f"an import's name must be printable text, not {name!r}")
    bad: list[BadRow] = []

    def skip(row: BadRow) -> None:
        if on_bad_row is None:
            raise row
        on_bad_row(row)
        bad.append(row)

    seen = _Seen()
    done = observed = 0
    rows = read_history(history, skip)
    while chunk := list(islice(rows, _CHUNK)):
        embeddings = _embeddings(database, [row.query for row in chunk], embed)
        observations = list(_observations(chunk, embeddings, f"import:{name}", seen))
        ids = database.write(observations)
        done += len(chunk)
        observed += len(observations)
        if written is not None:
            written(ids)
        if progress is not None:
            progress(done)
    return Imported(done, observed, len(bad))


class _Seen:
    """Which models have occurred with which queries; some 100 bytes per query."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self._models: dict[bytes, int] = {}

    def before(self, query: str, model: str) -> bool:
        """Whether this pair has occurred before; remembers it."""
        bit = self._bits.setdefault(model, 1 << len(self._bits))
        key = key_of(query)
        models = self._models.get(key, 0)
        self._models[key] = models | bit
        return bool(models & bit)


def _embeddings(database: Database, queries: Sequence[str], embed: Embed) -> list[Floats32]:
    texts = [stored_text(query) for query in queries]
    known = dict(zip(texts, database.embeddings(texts), strict=True))
    new = [text for text, embedding in known.items() if embedding is None]
    known |= zip(new, embed(new) if new else (), strict=True)
    return [known[text] for text in texts]  # type: ignore[misc]  # all are known now


def _observations(
    rows: Sequence[Row], embeddings: Sequence[Floats32], source: str, seen: _Seen
) -> Iterator[Observation]:
    for row, embedding in zip(rows, embeddings, strict=True):
        for model, outcome in row.outcomes.items():
            if outcome.quality is None and outcome.output_tokens is None:
                continue
            yield Observation(
                query=row.query,
                embedding=embedding,
                model=model,
                source=source,
                quality=outcome.quality,
                output_tokens=outcome.output_tokens,
                count=outcome.count,
                input_tokens=row.input_tokens,
                characters=len(row.query),
                replace=not seen.before(row.query, model),
                said=digest_of(row.answers.get(model, "")),
                scored_at=outcome.scored_at,
            )
