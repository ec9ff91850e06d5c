"""The tables of the store's database."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    ForeignKey,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    case,
    false,
    func,
)

NO_QUERY = 0  # the number that no query has

metadata = MetaData()

# SQLite numbers rows by itself only in a column declared INTEGER.
_ID = BigInteger().with_variant(Integer, "sqlite")


def _query_id() -> Column[int]:
    reference = ForeignKey("queries.id", ondelete="CASCADE")
    return Column("query_id", _ID, reference, primary_key=True, nullable=False)


queries = Table(
    "queries",
    metadata,
    Column("id", _ID, primary_key=True, autoincrement=True),
    Column("key", LargeBinary(32), nullable=False, unique=True),
    Column("characters", Float),  # of the whole prompt, like input_tokens
    Column("input_tokens", Float),
    Column("updated_at", Float, nullable=False, index=True),  # unix seconds
    Column("revision", BigInteger, nullable=False, index=True),  # of the last transaction
    Column("writer", BigInteger, nullable=False),  # number of the Database object that made it
    Column("embedding", LargeBinary, nullable=False),  # float16, little endian
    Column("text", Text, nullable=False),
    Column("scored", Boolean, nullable=False, server_default=false()),  # any of its outcomes
    Index("ix_queries_scored_revision", "scored", "revision"),  # the order of deletion
    sqlite_autoincrement=True,  # numbers of deleted queries are not reused
)

# `identity` is the model that the name stood for (`ModelConfig.identity`); "" where unknown.
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
    Column("said", BigInteger),  # the digest of the latest answer that is known
    Column("scored_at", Float),  # unix seconds, of the latest score; null without one
    Column("updated_at", Float, nullable=False),
    sqlite_with_rowid=False,
)


def dated(table: FromClause = outcomes) -> ColumnElement[float | None]:
    """When an outcome was scored last, in Unix seconds; null without a score. A server of an
    earlier version that shares the store writes no time: no later than the last change, then."""
    return case((table.c.scored > 0, func.coalesce(table.c.scored_at, table.c.updated_at)))


# Of answers of other shapes than text, whose lengths `outcomes` leaves out.
lengths = Table(
    "lengths",
    metadata,
    Column("model", String, primary_key=True),
    Column("identity", String, primary_key=True),
    Column("shape", String, primary_key=True),
    Column("tokens_sum", Float, nullable=False),
    Column("counted", BigInteger, nullable=False),
    Column("seconds_sum", Float, nullable=False),
    Column("timed", BigInteger, nullable=False),
    Column("updated_at", Float, nullable=False),
    sqlite_with_rowid=False,
)

# No reference to the query: feedback still counts for the policy when the query has been deleted,
# or was not kept (NO_QUERY).
answers = Table(
    "answers",
    metadata,
    Column("id", String, primary_key=True),
    Column("query_id", _ID, nullable=False),
    Column("model", String, nullable=False),
    Column("identity", String, nullable=False, server_default=""),
    Column("predicted", Float),
    Column("policy", String),
    Column("chosen", Boolean),  # false where the model took over from one that failed
    Column("propensity", Float),  # of the choice
    Column("key", String),  # the name of the caller's key; null where it had none, or is unknown
    Column("score", Float),
    Column("rated", Boolean),  # true where the answer got its score by itself, not by feedback
    Column("cost", Float),
    Column("at", Float, nullable=False, index=True),  # unix seconds
    sqlite_with_rowid=False,
)

# Small values kept between runs, in JSON, and the header.
state = Table(
    "state",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", Text, nullable=False),
)

# New embeddings while re-embedding, until they replace those in `queries`.
reembedded = Table(
    "reembedded",
    metadata,
    _query_id(),
    Column("embedding", LargeBinary, nullable=False),
)
