"""The tables of the store's database, and what it says of itself."""

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    inspect,
    select,
)

from deployments.store.errors import EmbeddingModelChanged, NoStore
from deployments.store.sql import migrating

HEADER = "store"  # name of the row of `state` in which the database tells of itself

metadata = MetaData()

# SQLite counts up by itself only in a column of its own INTEGER.
_ID = BigInteger().with_variant(Integer, "sqlite")


def _query_id() -> Column[int]:
    reference = ForeignKey("queries.id", ondelete="CASCADE")
    return Column("query_id", _ID, reference, primary_key=True, nullable=False)


queries = Table(
    "queries",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("key", LargeBinary(32), nullable=False, unique=True),
    Column("characters", Float),  # of the whole prompt, as are input_tokens
    Column("input_tokens", Float),
    Column("updated_at", Float, nullable=False, index=True),  # unix seconds
    Column("revision", BigInteger, nullable=False, index=True),  # number of the last transaction
    Column("writer", BigInteger, nullable=False),  # the Database object that it was of
    Column("embedding", LargeBinary, nullable=False),  # float16, little endian
    Column("text", Text, nullable=False),
    Column("scored", Boolean, nullable=False, server_default=false()),  # any of its outcomes
    Index("ix_queries_scored_revision", "scored", "revision"),  # the order in which they go
    sqlite_autoincrement=True,  # the number of a deleted query isn't given again
)

# `identity` is which model was behind the name, as of `ModelConfig.identity`; "" is not said.
outcomes = Table(
    "outcomes",
    metadata,
    _query_id(),
    Column("model", String, primary_key=True),
    Column("source", String, primary_key=True),
    Column("identity", String, primary_key=True, server_default=""),
    Column("quality_sum", Float, nullable=False),
    Column("scored", BigInteger, nullable=False),
    Column("tokens_sum", Float, nullable=False),
    Column("counted", BigInteger, nullable=False),
    Column("seconds_sum", Float, nullable=False),
    Column("timed", BigInteger, nullable=False),
    Column("answers", BigInteger, nullable=False),
    Column("updated_at", Float, nullable=False),
    sqlite_with_rowid=False,
)

# Without a reference to the query: what it says of its policy counts also when the query is gone.
answers = Table(
    "answers",
    metadata,
    Column("id", String, primary_key=True),
    Column("query_id", _ID, nullable=False),
    Column("model", String, nullable=False),
    Column("identity", String, nullable=False, server_default=""),
    Column("predicted", Float),
    Column("policy", String),
    Column("score", Float),
    Column("cost", Float),
    Column("at", Float, nullable=False, index=True),  # unix seconds
    sqlite_with_rowid=False,
)

# Small things kept between runs, as JSON.
state = Table(
    "state",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

# Embeddings of another model in the making, until they take the place of those in `queries`.
reembedded = Table(
    "reembedded",
    metadata,
    _query_id(),
    Column("embedding", LargeBinary, nullable=False),
)


def opened(
    connection: Connection, shown: str, model: str | None, dimensions: int | None
) -> dict[str, Any]:
    """The header of a database, whose tables are made if it is empty, and brought up to date if it
    is of an older version.

    Returns:
        `embedding_model`, `dimensions`, `revision` (number of the last transaction that changed or
        deleted a query), `deletions` (transactions that deleted any), `queries` and `answers` (how
        many there are).

    Raises:
        EmbeddingModelChanged: its embeddings are of another model.
        NoStore: it is empty, and no model is given.
        ValueError: it is of a newer version or of something else.
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
            "schema": 2,  # for programs that don't know Alembic's table: they refuse the database
            "embedding_model": model,
            "dimensions": dimensions,
            **dict.fromkeys(("revision", "deletions", "queries", "answers"), 0),
        }
        connection.execute(state.insert().values(name=HEADER, value=json.dumps(header)))
    else:
        check(header, shown, model, dimensions)
        migrating.upgrade(connection, shown)
        header = dict(read_header(connection) or {})
    return header


def check(header: dict[str, Any], shown: str, model: str | None, dimensions: int | None) -> None:
    """Raises EmbeddingModelChanged where the embeddings are not of this model; None is any."""
    same_model = model in (None, header["embedding_model"])
    if not same_model or dimensions not in (None, header["dimensions"]):
        raise EmbeddingModelChanged(
            f"{shown} holds embeddings of '{header['embedding_model']}' ({header['dimensions']} "
            f"dimensions), not of '{model}' ({dimensions}): re-embed with `python -m ops.store "
            f"reembed --store URL --model {model}`, or give another URL"
        )


def read_header(connection: Connection) -> dict[str, Any] | None:
    """What the database says of itself; None where it is not a store yet."""
    value = connection.scalar(select(state.c.value).where(state.c.name == HEADER))
    return None if value is None else dict(json.loads(value))


def write_header(connection: Connection, header: dict[str, Any]) -> None:
    """Replaces what the database says of itself."""
    connection.execute(
        state.update().where(state.c.name == HEADER).values(value=json.dumps(header))
    )
