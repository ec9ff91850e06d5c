"""Connections to the store's SQL database by its URL: SQLite or PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from deployments.store.errors import DatabaseUnavailable, NoStore
from deployments.store.sql.private_files import make_private
from deployments.store.sql.urls import parsed, secrets, shown

_WAIT_S = 60  # for another writer
_CONNECT_S = 10

# FULL: a transaction is on the disk when its commit returns, also in WAL mode.
_SQLITE_SETTINGS = (
    f"PRAGMA busy_timeout = {_WAIT_S * 1000}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -65536",  # KiB
)
# The lock of a writer whose machine is gone must not be held for ever.
_POSTGRESQL_SETTINGS = (
    f"SET lock_timeout = '{_WAIT_S}s'",
    f"SET idle_in_transaction_session_timeout = '{_WAIT_S}s'",
)
# One transaction writes at a time, as in SQLite: no deadlocks, and revisions are in order.
_BEGIN_WRITING = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "SELECT pg_advisory_xact_lock(7270571933)",
}


class Connections:
    """Transactions on one database; may be shared by threads.

    Args:
        url: `sqlite:///path`, `sqlite://` (in memory) or `postgresql://user:password@host/name`.
        create: makes a file that is not there, with its folder.

    Raises:
        NoStore: the file is not there, and is not to be made.
        ValueError: the URL is of no known kind, or what it names can't be opened; the message
            has no password.
    """

    def __init__(self, url: str, create: bool = True) -> None:
        self._url = parsed(url)
        self.shown = shown(self._url)
        self.dialect = self._url.get_backend_name()
        self._engine = self._made_engine(create)
        try:
            with self._engine.connect():
                pass
        except DBAPIError as error:
            self._engine.dispose()
            raise self.unopened(error) from None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads.

        Raises:
            DatabaseUnavailable: the database can't be reached, or doesn't answer in time.
        """
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes, alone; what it wrote is on the disk when it has ended.

        Raises:
            DatabaseUnavailable: the database can't be reached, or doesn't answer in time. Where
                that was in its last moment, the transaction may have been committed.
        """
        with self._translated(), self._engine.connect() as connection:
            connection.execution_options(writing=True)
            with connection.begin():
                yield connection

    def unopened(self, error: DBAPIError) -> ValueError:
        """What to raise instead of an error of the driver, which may hold the whole URL."""
        return ValueError(f"can't open the store {self._told(error)}")

    def close(self) -> None:
        """Ends the connections."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise DatabaseUnavailable(f"the store {self._told(error)}") from None

    def _told(self, error: Exception) -> str:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        for secret in filter(None, secrets(self._url)):
            reason = reason.replace(secret, "***")
        return f"{self.shown}: {reason}"

    def _made_engine(self, create: bool) -> Engine:
        if self.dialect == "sqlite":
            return _sqlite_engine(self._url, self.shown, create)
        return _postgresql_engine(self._url)


def _sqlite_engine(url: URL, shown: str, create: bool) -> Engine:
    options: dict[str, Any] = {}
    if url.database in {None, "", ":memory:"}:
        # One connection is the database; who wants it waits for it.
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
    engine = create_engine(
        url,
        hide_parameters=True,  # queries are nobody's business in a log
        connect_args={"check_same_thread": False, "timeout": _WAIT_S},
        **options,
    )
    _begin_by_ourselves(engine, _SQLITE_SETTINGS)
    return engine


def _postgresql_engine(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,  # a connection that died is replaced
            connect_args={} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_S},
        )
    except ImportError as error:
        raise ValueError(
            "a store in PostgreSQL needs psycopg: pip install 'llm-cores-on-ray-serve[postgresql]'"
        ) from error
    _begin_by_ourselves(engine, _POSTGRESQL_SETTINGS)
    return engine


def _begin_by_ourselves(engine: Engine, settings: tuple[str, ...]) -> None:
    """Makes every connection with `settings`, and every transaction with its right BEGIN."""
    sqlite = engine.dialect.name == "sqlite"

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        if sqlite:
            connection.isolation_level = None  # else the driver begins, and not before a schema's
        cursor = connection.cursor()
        for setting in settings:
            cursor.execute(setting)
        cursor.close()
        connection.commit()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("writing"):
            connection.exec_driver_sql(_BEGIN_WRITING[engine.dialect.name])
        elif sqlite:
            connection.exec_driver_sql("BEGIN")
