"""Databases that are closed after the test."""

from collections.abc import Iterator

import pytest
from observed import D

from deployments.store.sql.database import Database


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    """An empty store of each kind in turn."""
    database = Database(store_url, "encoder", D)
    yield database
    database.close()


@pytest.fixture
def memory() -> Iterator[Database]:
    """An empty store in memory."""
    database = Database("sqlite://", "encoder", D)
    yield database
    database.close()
