"""An outcome knows when it was scored last."""

import sqlalchemy as sa
from alembic import op

revision = "6"
down_revision = "5"


def upgrade() -> None:
    """Takes some seconds for a million queries. Of the scores so far it is only known that they are
    no newer than the outcome's last change."""
    op.add_column("outcomes", sa.Column("scored_at", sa.Float))
    op.execute("UPDATE outcomes SET scored_at = updated_at WHERE scored > 0")
