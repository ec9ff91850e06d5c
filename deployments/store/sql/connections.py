"""Transactions on the store's database, and its errors without its secrets."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from deployments.store.errors import DatabaseUnavailable
from deployments.store.sql.urls import dialect_of, parsed, secrets, shown


class Connections:
    """Transactions on one database; may be shared by threads.

    Args:
        url: `sqlite:///path`, `sqlite://` (in memory) or `postgresql://user:password@host/name`.
        create: make a file that does not exist, and its folder.

    Attributes:
        shown: the URL without its secrets.
        dialect: of the database.

    Raises:
        NoStore: the file does not exist and is not to be made.
        ValueError: the URL is of an unknown kind, or the database can't be opened; the message
            holds no password.
    """

    def __init__(self, url: str, create: bool = True) -> None:
        self._url = parsed(url)
        self.dialect = dialect_of(self._url)
        self.shown = shown(self._url)
        self._engine = self.dialect.engine(self._url, self.shown, create=create)
        try:
            with self._engine.connect():
                pass
        except DBAPIError as error:
            self._engine.dispose()
            raise self.not_opened(error) from None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads.

        Raises:
            DatabaseUnavailable: the database can't be reached or did not answer in time.
        """
        with self._translated(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes, one at a time; once it has ended it is on the disk.

        Raises:
            DatabaseUnavailable: the database can't be reached or did not answer in time. If the
                connection broke during the commit, the transaction may have been committed.
        """
        with self._translated(), self._engine.connect() as connection:
            connection.execution_options(writing=True)
            with connection.begin():
                yield connection

    def not_opened(self, error: DBAPIError) -> ValueError:
        """What to raise in place of a driver's error, which may hold the whole URL."""
        return ValueError(f"can't open the store {self._redacted(error)}")

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise DatabaseUnavailable(f"the store {self._redacted(error)}") from None

    def _redacted(self, error: Exception) -> str:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        for secret in filter(None, secrets(self._url)):
            reason = reason.replace(secret, "***")
        return f"{self.shown}: {reason}"
