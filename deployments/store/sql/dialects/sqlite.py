"""A store in a SQLite file, or in memory."""

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import URL, Connection, Engine, Table, create_engine, text
from sqlalchemy.dialects.sqlite import Insert, insert
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from deployments.store.errors import NoStore
from deployments.store.sql.dialects.dialect import LOCK_WAIT_S, Dialect
from deployments.store.sql.dialects.private_files import make_private

_PAUSE_S = 0.01  # between two attempts at what another process does, too


class SQLite(Dialect):
    """One file on a local disk, or one connection that is the whole database."""

    driver = "sqlite+pysqlite"
    schemes = frozenset({"sqlite", driver})
    # https://www.sqlite.org/uri.html
    public_parameters = frozenset("uri mode cache vfs immutable nolock psow timeout".split())
    settings = (
        f"PRAGMA busy_timeout = {LOCK_WAIT_S * 1000}",
        "PRAGMA synchronous = FULL",  # in WAL mode too, a commit that returns is on the disk
        "PRAGMA foreign_keys = ON",
        "PRAGMA journal_size_limit = 67108864",
        "PRAGMA cache_size = -65536",  # KiB
    )
    begin_reading = "BEGIN"
    # Takes the write lock at once: a transaction that reads first and then writes could deadlock.
    begin_writing = "BEGIN IMMEDIATE"

    def check(self, url: str, parts: URL) -> None:
        """A path can be anything."""

    def insert(self, table: Table) -> Insert:
        return insert(table)

    def size(self, connection: Connection, tables: Iterable[str]) -> int:
        pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        return int(connection.scalar(text(pages)) or 0)

    def _engine(self, url: URL, shown: str, create: bool) -> Engine:
        options: dict[str, Any] = {}
        if url.database in {None, "", ":memory:"}:
            # The one connection is the database; threads take turns with it.
            options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
        elif str(url.database).startswith("file:"):
            path = Path(unquote(urlsplit(str(url.database)).path))
            if path.exists() or url.query.get("mode", "rwc") == "rwc":
                make_private(path)
        else:
            path = Path(str(url.database)).expanduser()
            if not create and not path.exists():
                raise NoStore(f"there is no store at {shown}")
            try:
                make_private(path)
            except OSError as error:
                raise ValueError(f"can't open the store {shown}: {error}") from error
            url = url.set(database=str(path))
        return create_engine(
            url,
            hide_parameters=True,  # users' queries don't belong in a log
            connect_args={"check_same_thread": False, "timeout": LOCK_WAIT_S},
            **options,
        )

    def _on_connect(self, connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        # Otherwise the driver begins transactions itself, and leaves DDL outside of them.
        connection.isolation_level = None
        super()._on_connect(connection, entry)
        _use_wal(connection)


def _use_wal(connection: DBAPIConnection) -> None:
    """Turns write-ahead logging on. Where several processes create a file at once, SQLite refuses
    some of them at once, whatever `busy_timeout` says, since waiting could be a deadlock."""
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # without its details
            if not is_busy or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)
        else:
            return
        finally:
            cursor.close()
