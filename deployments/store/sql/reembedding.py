"""Replacing all embeddings in a database with another model's, without ever mixing the two.

The new ones are collected in a table of their own, batch by batch, so that an interrupted run can
be resumed. At the end one transaction swaps them in. From then on, programs that have the database
open with the old model get EmbeddingModelChanged.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from deployments.store.evidence import Floats32
from deployments.store.sql.connections import Connections
from deployments.store.sql.header import opened, read_header, write_header
from deployments.store.sql.schema import queries, reembedded
from deployments.store.sql.vectors import encoded

_BATCH = 256  # queries
_TARGET = "reembedding"  # key in the header: the model and dimensions in progress

_missing = (
    select(queries.c.id, queries.c.text)
    .outerjoin(reembedded, reembedded.c.query_id == queries.c.id)
    .where(reembedded.c.query_id.is_(None))
    .order_by(queries.c.id)
    .limit(_BATCH)
)


def reembed(
    url: str,
    embedding_model: str,
    dimensions: int,
    embed: Callable[[Sequence[str]], Floats32],
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Replaces the embeddings of all queries.

    Args:
        url: of the database.
        embedding_model: name of the new model.
        dimensions: of its embeddings.
        embed: texts to its embeddings (b, d).
        progress: called with the number of queries done, and of all.

    Returns:
        How many queries there are; 0 if the embeddings are already this model's.

    Raises:
        ValueError: there is no store, `embed` returns embeddings not of length 1, or another
            process is re-embedding with a different model.
        DatabaseUnavailable: the database can't be reached.
    """
    target = (embedding_model, dimensions)
    connections = Connections(url, create=False)
    try:
        with connections.writing() as connection:
            header = opened(connection, connections.shown, None, None)
            if (header["embedding_model"], header["dimensions"]) == target:
                return 0
            if header.get(_TARGET) != list(target):
                connection.execute(delete(reembedded))  # a third model's, never finished
                write_header(connection, {**header, _TARGET: target})
        while True:
            _fill(connections, target, embed, progress)
            with connections.writing() as connection:
                # Queries added meanwhile are embedded in another, short round.
                if connection.execute(_missing.limit(1)).first() is None:
                    return _swap(connection, target)
    finally:
        connections.close()


def _fill(
    connections: Connections,
    target: tuple[str, int],
    embed: Callable[[Sequence[str]], Floats32],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Embeds every query without a new embedding."""
    with connections.reading() as connection:
        done = connection.scalar(select(func.count()).select_from(reembedded)) or 0
        total = connection.scalar(select(func.count()).select_from(queries)) or 0
    after = 0
    while True:
        with connections.reading() as connection:
            batch = connection.execute(_missing.where(queries.c.id > after)).all()
        if not batch:
            return
        vectors = encoded(embed([text for _, text in batch]), target[1])
        new = dict(zip([id for id, _ in batch], vectors, strict=True))
        with connections.writing() as connection:
            _checked_header(connection, target)
            # Some may meanwhile have been deleted, or embedded by another process.
            wanted = connection.scalars(
                _missing.with_only_columns(queries.c.id).where(queries.c.id.in_(new))
            )
            rows = [{"query_id": id, "embedding": new[id]} for id in wanted]
            if rows:
                connection.execute(reembedded.insert(), rows)
        after = batch[-1][0]
        done += len(batch)
        if progress is not None:
            progress(done, max(done, total))


def _checked_header(connection: Connection, target: tuple[str, int]) -> dict[str, Any]:
    """The header, if it still names this target."""
    header = read_header(connection)
    if header is None or header.get(_TARGET) != list(target):
        raise ValueError(
            "another process is re-embedding this store, or has just done so; wait until it has "
            "finished, then run this again"
        )
    return header


def _swap(connection: Connection, target: tuple[str, int]) -> int:
    header = _checked_header(connection, target)
    new = select(reembedded.c.embedding).where(reembedded.c.query_id == queries.c.id)
    swapped = connection.execute(update(queries).values(embedding=new.scalar_subquery()))
    connection.execute(delete(reembedded))
    del header[_TARGET]
    header["embedding_model"], header["dimensions"] = target
    write_header(connection, header)
    return swapped.rowcount
