"""Stores that are closed after the test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from stores import opened

from deployments.store.store import EmbeddingStore


@pytest.fixture
def store(store_url: str, tmp_path: Path) -> Iterator[EmbeddingStore]:
    """An empty store of each kind in turn."""
    store = opened(store_url, tmp_path / "copies")
    yield store
    store.close()


@pytest.fixture
def other(store_url: str, tmp_path: Path) -> Iterator[EmbeddingStore]:
    """Another server's store on the same database."""
    other = opened(store_url, tmp_path / "other copies")
    yield other
    other.close()
