"""Queries know whether they are scored, to find quickly what to delete first; outcomes and answers
know which model their name stood for; an answer outlives its query."""

import json

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Takes some seconds for a million queries."""
    _mark_scored()
    _remake_outcomes()
    _remake_answers()
    _count()


def _mark_scored() -> None:
    unscored = sa.Column("scored", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("queries", unscored)
    op.execute(
        "UPDATE queries SET scored = true "
        "WHERE id IN (SELECT query_id FROM outcomes WHERE scored > 0)"
    )
    op.create_index("ix_queries_scored_revision", "queries", ["scored", "revision"])


def _remake_outcomes() -> None:
    # In new tables, since SQLite can't change a primary key.
    reference = sa.ForeignKey("queries.id", ondelete="CASCADE")
    op.create_table(
        "new_outcomes",
        sa.Column("query_id", _ID, reference, primary_key=True, nullable=False),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("identity", sa.String, primary_key=True, server_default=""),
        sa.Column("quality_sum", sa.Float, nullable=False),
        sa.Column("scored", sa.BigInteger, nullable=False),
        sa.Column("tokens_sum", sa.Float, nullable=False),
        sa.Column("counted", sa.BigInteger, nullable=False),
        sa.Column("seconds_sum", sa.Float, nullable=False),
        sa.Column("timed", sa.BigInteger, nullable=False),
        sa.Column("answers", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    columns = (
        "query_id, model, source, quality_sum, scored, tokens_sum, counted, seconds_sum, timed, "
        "answers, updated_at"
    )
    _replace("outcomes", columns)


def _remake_answers() -> None:
    op.create_table(
        "new_answers",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("query_id", _ID, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("identity", sa.String, nullable=False, server_default=""),
        sa.Column("predicted", sa.Float),
        sa.Column("policy", sa.String),
        sa.Column("score", sa.Float),
        sa.Column("cost", sa.Float),
        sa.Column("at", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    _replace("answers", "id, query_id, model, predicted, policy, score, cost, at")
    op.create_index("ix_answers_at", "answers", ["at"])


def _replace(table: str, columns: str) -> None:
    op.execute(f"INSERT INTO new_{table} ({columns}) SELECT {columns} FROM {table}")
    op.drop_table(table)
    op.rename_table(f"new_{table}", table)


def _count() -> None:
    connection = op.get_bind()
    state = sa.table("state", sa.column("name"), sa.column("value"))
    about = state.c.name == "store"
    header = json.loads(str(connection.scalar(sa.select(state.c.value).where(about))))
    for table in ("queries", "answers"):
        header[table] = connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))
    header["schema"] = 2  # older programs, which don't know Alembic's table, refuse the database
    header["deletions"] = 0
    header.pop("deletion", None)
    connection.execute(state.update().where(about).values(value=json.dumps(header)))
