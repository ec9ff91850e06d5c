"""An answer knows the key of the caller that it was for, who alone may score it."""

import sqlalchemy as sa
from alembic import op

revision = "5"
down_revision = "4"


def upgrade() -> None:
    """Takes no longer for many rows. Whose the answers so far are is unknown: any key may score
    them."""
    op.add_column("answers", sa.Column("key", sa.String))
