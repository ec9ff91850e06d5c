"""Lengths of other answers than plain text are kept by shape; an answer knows whether its model was
chosen, and how probable that was."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """Takes no longer for many rows. Which of the answers so far were not plain is unknown."""
    op.create_table(
        "lengths",
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("identity", sa.String, primary_key=True),
        sa.Column("shape", sa.String, primary_key=True),
        sa.Column("tokens_sum", sa.Float, nullable=False),
        sa.Column("counted", sa.BigInteger, nullable=False),
        sa.Column("seconds_sum", sa.Float, nullable=False),
        sa.Column("timed", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.add_column("answers", sa.Column("chosen", sa.Boolean))
    op.add_column("answers", sa.Column("propensity", sa.Float))
