"""Promise: what can't be opened is refused with the reason, and left alone."""

import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy
from observed import D, outcomes, seen
from postgres_fixtures import PostgreSQL
from sqlalchemy import make_url

from deployments.store.errors import DatabaseUnavailable, EmbeddingModelChanged
from deployments.store.observations import (
    Outcome,
)
from deployments.store.sql.connections import Connections
from deployments.store.sql.database import Database


def test_a_different_embedding_model_is_refused(database: Database, store_url: str) -> None:
    for model, dimensions in (("another", D), ("encoder", D + 1)):
        with pytest.raises(EmbeddingModelChanged, match=r"ops\.store reembed"):
            Database(store_url, model, dimensions)
    whatever = Database(store_url)
    assert (whatever.embedding_model, whatever.dimensions) == ("encoder", D)
    whatever.close()


def test_a_store_keeps_its_id_and_no_other_has_it(database: Database, store_url: str) -> None:
    database.write([seen()])
    database.close()
    again = Database(store_url)
    other = Database("sqlite://", "encoder", D)
    assert again.id == database.id != other.id
    again.close()
    other.close()


def test_reading_does_not_create_a_store(tmp_path: Path, postgresql: PostgreSQL) -> None:
    with pytest.raises(ValueError, match="no store at"):
        Database(f"sqlite:///{tmp_path}/typo/store.db")
    assert not (tmp_path / "typo").exists()
    with pytest.raises(ValueError, match="no store at"):
        Database(postgresql.database())


def test_a_newer_version_is_refused(database: Database, store_url: str) -> None:
    engine = sqlalchemy.create_engine(make_url(store_url).set(drivername=_driver(store_url)))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE store_version SET version_num = '999'")
    engine.dispose()
    with pytest.raises(ValueError, match=r"newer version of this program.*999.*install"):
        Database(store_url, "encoder", D)


def _driver(url: str) -> str:
    return "sqlite" if url.startswith("sqlite") else "postgresql+psycopg"


def test_a_database_that_is_not_a_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE queries (x)")
    connection.close()
    with pytest.raises(ValueError, match="something else"):
        Database(f"sqlite:///{file}", "encoder", D)
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    with pytest.raises(ValueError, match="not a database"):
        Database(f"sqlite:///{tmp_path}/text.db", "encoder", D)


def test_without_psycopg_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"pip install 'llm-cores-on-ray-serve\[postgresql\]'"):
        Database("postgresql://host/name", "encoder", D)


def test_an_unavailable_database_is_reported_and_used_again_once_it_is_back(
    postgresql: PostgreSQL,
) -> None:
    database = Database(postgresql.database(), "encoder", D)
    database.write([seen(quality=1)])
    postgresql.kill()
    with pytest.raises(DatabaseUnavailable):
        database.write([seen(quality=0)])
    postgresql.start()
    database.write([seen(quality=0)])
    assert outcomes(database)["Why?"]["small"] == Outcome(0.5, None, 2)
    database.close()


def test_many_processes_may_turn_on_write_ahead_logging_at_once(tmp_path: Path) -> None:
    """SQLite refuses some of them at once: of three hundred times, six failed."""
    for attempt in range(60):
        barrier = threading.Barrier(8)

        def connect(number: int, url: str, barrier: threading.Barrier) -> None:
            barrier.wait()
            Connections(url).close()

        with ThreadPoolExecutor(8) as pool:
            url = f"sqlite:///{tmp_path}/{attempt}.db"
            list(pool.map(connect, range(8), [url] * 8, [barrier] * 8))
