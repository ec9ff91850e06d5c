"""Promise: acknowledged writes survive `kill -9` of the writer and of the database server, and the
copies of a store that was killed are gone on from without missing any."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from postgres_fixtures import PostgreSQL
from sqlalchemy import Connection, NullPool, Row, create_engine, make_url, text

from deployments.store.copies.folder import Folder
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore

THREADS = 4  # that write to one store concurrently
UNAVAILABLE = 3  # a writer's exit status when it can't reach the database
ROOT = Path(__file__).parents[2]

# Forks a writer for each line of its input, so that Python starts once. A writer prints a line for
# each acknowledgement as soon as it has it: "w" for a write, "s" for its score.
WRITER = """
import os, sys, threading
from pathlib import Path
import numpy as np
from deployments.store.copies.folder import Folder
from deployments.store.errors import DatabaseUnavailable
from deployments.store.observations import AnswerRecord, Observation
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore

vector = np.full(8, 8**-0.5, np.float32)

def keep_writing(name, observe, score):
    number = 0
    while True:
        id = f"{name} {number}"
        text = f"query {number % 50}" if number % 2 else f"query of {id}"
        known = dict(output_tokens=10, identity="openai/small")
        seen = Observation(text, vector, "small", "answers", **known)
        observe((seen, AnswerRecord(id, "small", identity="openai/small")))
        os.write(1, f"w {id}\\n".encode())
        score(id, 0.5)
        os.write(1, f"s {id}\\n".encode())
        number += 1

def write_to_database(url, folder, name):
    database = Database(url, "encoder", 8)
    keep_writing(name, lambda item: database.write([item]), lambda *pair: database.score([pair]))

def write_to_store(url, folder, name):
    database = Database(url, "encoder", 8, identities={"small": "openai/small"})
    store = EmbeddingStore(database, Folder(Path(folder)))
    if not store.resume():
        store.load()

    def work(thread):
        keep_writing(
            f"{name} {thread}",
            lambda item: store.observe(item).result(),
            lambda *pair: store.score(*pair).result(),
        )

    threads = [threading.Thread(target=work, args=[thread]) for thread in range(int(sys.argv[1]))]
    for thread in threads:
        thread.start()
    while all(thread.is_alive() for thread in threads):
        store.sync()
        store.publish()

write = {"database": write_to_database, "store": write_to_store}
for name, line in enumerate(sys.stdin):
    kind, url, folder = line.split()
    child = os.fork()
    if not child:
        try:
            write[kind](url, folder, name)
        except DatabaseUnavailable:
            os._exit(3)  # UNAVAILABLE
        finally:
            os._exit(4)
    os.write(1, f"pid {child}\\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(1, f"end {status}\\n".encode())
"""


class Writer:
    """A process that writes until it is killed, and can be started again: to a "database" directly,
    or from several threads to a "store" on top of it, whose copies go to a folder."""

    def __init__(self, kind: str, url: str, folder: Path) -> None:
        self.kind, self.url, self.folder = kind, url, folder
        self.written: list[str] = []
        self.scored: list[str] = []
        self.kills = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(THREADS)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._input, self._output = self._process.stdin, self._process.stdout

    def start(self) -> int:
        """Starts writing; returns the process's id."""
        self._input.write(f"{self.kind} {self.url} {self.folder}\n")
        self._input.flush()
        self.kills += 1
        return int(self._next()[1])

    def until(self, acknowledged: int) -> None:
        """Reads this many acknowledgements."""
        for _ in range(acknowledged):
            kind, id = self._next()
            {"w": self.written, "s": self.scored}[kind].append(id)

    def ended(self) -> int:
        """Reads all remaining acknowledgements; returns the exit status."""
        while True:
            kind, id = self._next()
            if kind == "end":
                return int(id)
            {"w": self.written, "s": self.scored}[kind].append(id)

    def close(self) -> None:
        self._input.close()
        self._process.wait(60)
        self._output.close()

    def _next(self) -> tuple[str, str]:
        kind, _, rest = self._output.readline().strip().partition(" ")
        return kind, rest


Writing = Callable[[str, str], Writer]


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[Writing]:
    """Starts writers, and closes them after the test."""
    writers: list[Writer] = []

    def start(kind: str, url: str) -> Writer:
        Database(url, "encoder", 8).close()
        writers.append(Writer(kind, url, tmp_path / "copies"))
        return writers[-1]

    yield start
    for writer in writers:
        writer.close()


def kill(writer: Writer) -> None:
    """Kills the writer after some acknowledgements, at a random moment."""
    process = writer.start()
    writer.until(random.randrange(1, 12))
    time.sleep(random.random() * 0.01)
    os.kill(process, signal.SIGKILL)
    assert writer.ended() == signal.SIGKILL


def check(writer: Writer, connection: Connection) -> None:
    """Acknowledged writes are there; others are there completely or not at all."""

    def rows(query: str) -> Sequence[Row[Any]]:
        return connection.execute(text(query)).all()

    scores = {row.id: row.score for row in rows("SELECT id, score FROM answers")}
    assert scores.keys() >= set(writer.written)
    assert {id for id, score in scores.items() if score == 0.5} >= set(writer.scored)
    (total,) = rows(
        "SELECT sum(answers) AS answers, sum(scored) AS scored, sum(quality_sum) AS quality"
        " FROM outcomes"
    )
    in_flight = writer.kills * (THREADS if writer.kind == "store" else 1)
    assert total.answers == len(scores) <= len(writer.written) + in_flight
    assert total.scored == len([score for score in scores.values() if score is not None])
    assert total.quality == float(total.scored) / 2
    ((queries,),) = rows("SELECT count(*) FROM queries")
    assert len(rows("SELECT DISTINCT query_id FROM outcomes")) == queries


def check_copies(writer: Writer) -> None:
    """A new store goes on from the copies, or reads everything; either way it knows the same."""
    database = Database(writer.url, "encoder", 8, identities={"small": "openai/small"})
    store = EmbeddingStore(database, Folder(writer.folder))
    assert store.resume() == (writer.kind == "store")
    for read in (store.sync, store.load):
        read()
        store.publish()
        assert store.publisher.ids() == database.ids()
        assert len(store.publisher.copy) > 0
        assert store.publisher.copy.means().quality == [0.5]
    store.close()


@pytest.mark.parametrize(("kind", "kills"), [("store", 50), ("database", 10)])
def test_kills_of_a_writer_to_sqlite(
    tmp_path: Path, writing: Writing, kind: str, kills: int
) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    writer = writing(kind, url)
    for _ in range(kills):
        kill(writer)
        engine = create_engine(url)
        with engine.connect() as connection:
            check(writer, connection)
            assert connection.execute(text("PRAGMA integrity_check")).all() == [("ok",)]
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        engine.dispose()
    assert len(writer.scored) > kills
    check_copies(writer)


@pytest.mark.parametrize("kind", ["store", "database"])
def test_kills_of_a_writer_to_postgresql(
    postgresql: PostgreSQL, writing: Writing, kind: str
) -> None:
    url = postgresql.database()
    writer = writing(kind, url)
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    for _ in range(6):
        kill(writer)
        with engine.connect() as connection:
            check(writer, connection)
    engine.dispose()
    check_copies(writer)


def test_a_kill_of_the_postgresql_server(postgresql: PostgreSQL, writing: Writing) -> None:
    url = postgresql.database()
    writer = writing("database", url)
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    for _ in range(2):
        writer.start()
        writer.until(random.randrange(20, 60))
        postgresql.kill()
        assert os.waitstatus_to_exitcode(writer.ended()) == UNAVAILABLE
        postgresql.start()
        with engine.connect() as connection:
            check(writer, connection)
