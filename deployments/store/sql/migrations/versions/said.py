"""An outcome knows the digest of an answer, by which models agree or don't."""

import sqlalchemy as sa
from alembic import op

revision = "4"
down_revision = "3"


def upgrade() -> None:
    """Takes no longer for many rows. What was answered before is unknown."""
    op.add_column("outcomes", sa.Column("said", sa.BigInteger))
