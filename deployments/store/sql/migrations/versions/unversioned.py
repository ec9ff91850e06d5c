"""The tables as they were before a database told its version; nothing has to be done for them."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Nothing."""
