"""The tables as they were before databases had a version; there is nothing to do."""

revision = "1"
down_revision = None


def upgrade() -> None:
    """Nothing."""
