"""An answer knows whether it got its score by itself, which then counts for no key."""

import sqlalchemy as sa
from alembic import op

revision = "7"
down_revision = "6"


def upgrade() -> None:
    """Takes no longer for many rows. Scores so far count as feedback until their answers go."""
    op.add_column("answers", sa.Column("rated", sa.Boolean))
