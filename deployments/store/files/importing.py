"""Taking a history into the database: embedded, written in bounded pieces, never counted twice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from deployments.store.evidence import Floats32
from deployments.store.files.history import BadRow, History, Row, read_history
from deployments.store.observations import Observation, key_of, stored_text
from deployments.store.sql.database import Database

_CHUNK = 256  # rows of one transaction: short enough for others to write in between

Embed = Callable[[Sequence[str]], Floats32]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: rows read, observations written, bad rows left out."""

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
    """Writes what models did on past queries, from a file or rows of any import format.

    Rows of one query are averaged, by count. What an import of this name said before of a model on
    a query is replaced; so an import may be repeated, and an import that was killed is mended by
    repeating it. What an earlier import of the name said of other queries stays.

    Args:
        database: where to.
        history: as in `read_history`.
        embed: texts to embeddings (b, d), of the database's embedding model; asked only for queries
            that the database has not.
        name: of the import; the observations' source is "import:<name>".
        on_bad_row: gets every row that can't be used, which is then left out; without it, the first
            one is raised, and what was written before it stays.
        progress: gets the number of rows done so far, after each piece.
        written: gets the numbers of the queries of each piece, once they are in the database.

    Raises:
        BadRow, ValueError, FileNotFoundError: as by `read_history`.
        ValueError: the name is empty or no printable text.
    """
    if not name or not name.isprintable():
        raise ValueError(f"an import's name must be a printable text, not {name!r}")
    bad: list[BadRow] = []

    def left_out(row: BadRow) -> None:
        if on_bad_row is None:
            raise row
        on_bad_row(row)
        bad.append(row)

    seen = _Seen()
    done = observed = 0
    rows = read_history(history, left_out)
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
    """Which models' outcomes were met on which queries; some 100 bytes for a query."""

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        self._models: dict[bytes, int] = {}

    def before(self, query: str, model: str) -> bool:
        """Whether this pair was met before; from now on it was."""
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
    return [known[text] for text in texts]  # type: ignore[misc]  # none is None any more


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
            )
