"""What differs between the databases that a store can be kept in.

Types, DDL and placeholders are left to SQLAlchemy, which knows them for every database. What
remains is one object, chosen once by the store's URL (`sql/urls.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from sqlalchemy import URL, Connection, Engine, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

LOCK_WAIT_S = 60  # how long a writer waits for another one

Insert = sqlite.Insert | postgresql.Insert  # with `on_conflict_do_update`


class Dialect(ABC):
    """How to connect to one kind of database, and what to tell it in SQL of its own.

    Attributes:
        driver: SQLAlchemy's name for the dialect and the driver used.
        schemes: how a store's URL may begin.
        public_parameters: the URL parameters that never hold a secret; any other one may.
        settings: statements run on every new connection.
        begin_reading, begin_writing: statements that begin a transaction; None leaves it to the
            driver.
    """

    driver: ClassVar[str]
    schemes: ClassVar[frozenset[str]]
    public_parameters: ClassVar[frozenset[str]]
    settings: ClassVar[tuple[str, ...]]
    begin_reading: ClassVar[str | None] = None
    begin_writing: ClassVar[str]

    @property
    def missing(self) -> str | None:
        """What to install before this database can be used; None if nothing."""
        return None

    @abstractmethod
    def check(self, url: str, parts: URL) -> None:
        """Checks what is special about this database's URLs.

        Raises:
            ValueError: the URL is wrong. The message repeats nothing of it.
        """

    def engine(self, url: URL, shown: str, *, create: bool) -> Engine:
        """An engine whose connections have the right settings and begin transactions correctly.

        Args:
            url: of the database.
            shown: the URL without its secrets, for errors.
            create: make the database if it does not exist and is only a file.

        Raises:
            NoStore: the database does not exist and is not to be made.
            ValueError: it can't be opened, or its driver is not installed.
        """
        engine = self._engine(url, shown, create)
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "begin", self._on_begin)
        return engine

    @abstractmethod
    def insert(self, table: Table) -> Insert:
        """An INSERT that can say what happens on a conflict."""

    @abstractmethod
    def size(self, connection: Connection, tables: Iterable[str]) -> int:
        """Bytes that these tables take up."""

    @abstractmethod
    def _engine(self, url: URL, shown: str, create: bool) -> Engine: ...

    def _on_connect(self, connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        cursor: Any = connection.cursor()
        for setting in self.settings:
            cursor.execute(setting)
        cursor.close()
        connection.commit()

    def _on_begin(self, connection: Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        statement = self.begin_writing if writing else self.begin_reading
        if statement is not None:
            connection.exec_driver_sql(statement)
