"""What a store's database says of itself: its embedding model, and counts kept up to date.

The header is one row of the table `state`, in JSON.
"""

import json
import secrets
from typing import Any

from sqlalchemy import Connection, inspect

from deployments.store.errors import EmbeddingModelChanged, NoStore
from deployments.store.sql import migrating, statements
from deployments.store.sql.schema import metadata, queries, state

HEADER = "store"  # the row's name


def opened(
    connection: Connection, shown: str, model: str | None, dimensions: int | None
) -> dict[str, Any]:
    """The header of a database. An empty database gets its tables first; those of an older
    version are migrated.

    Returns:
        `id` (random, of this store alone), `embedding_model`, `dimensions`, `revision` (number of
        the last transaction that changed or deleted a query), `deletions` (number of transactions
        that deleted any), `queries` and `answers` (how many there are).

    Raises:
        EmbeddingModelChanged: its embeddings come from a different model.
        NoStore: it is empty, and no model is given.
        ValueError: it comes from a newer version, or is not a store.
    """
    tables = inspect(connection)
    header = read_header(connection) if tables.has_table(state.name) else None
    if header is None:
        if tables.has_table(queries.name):
            raise ValueError(f"{shown} holds something else; give the store a database of its own")
        if model is None or dimensions is None:
            raise NoStore(f"there is no store at {shown}")
        metadata.create_all(connection)
        migrating.stamp(connection)
        header = {
            "id": _new_id(),
            "schema": 2,  # older programs, which don't know Alembic's table, refuse the database
            "embedding_model": model,
            "dimensions": dimensions,
            **dict.fromkeys(("revision", "deletions", "queries", "answers"), 0),
        }
        connection.execute(state.insert().values(name=HEADER, value=json.dumps(header)))
    else:
        check(header, shown, model, dimensions)
        migrating.upgrade(connection, shown)
        header = dict(read_header(connection) or {})
        if "id" not in header:  # earlier versions of this program gave none
            header["id"] = _new_id()
            write_header(connection, header)
    return header


def check(header: dict[str, Any], shown: str, model: str | None, dimensions: int | None) -> None:
    """Checks that the embeddings come from this model; None stands for any.

    Raises:
        EmbeddingModelChanged: they don't.
    """
    same_model = model in (None, header["embedding_model"])
    if not same_model or dimensions not in (None, header["dimensions"]):
        raise EmbeddingModelChanged(
            f"{shown} holds embeddings of '{header['embedding_model']}' ({header['dimensions']} "
            f"dimensions), not of '{model}' ({dimensions}): re-embed with `python -m ops.store "
            f"reembed --store URL --model {model}`, or give another URL"
        )


def read_header(connection: Connection) -> dict[str, Any] | None:
    """The header; None if the database is not a store yet."""
    value = connection.scalar(statements.value_of, {"key": HEADER})
    return None if value is None else dict(json.loads(value))


def write_header(connection: Connection, header: dict[str, Any]) -> None:
    """Replaces the header."""
    connection.execute(statements.set_value, {"key": HEADER, "value": json.dumps(header)})


def _new_id() -> str:
    return secrets.token_hex(16)
