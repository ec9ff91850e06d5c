"""Promise: what was acknowledged survives `kill -9` of who writes, and of the database's server."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from deployments.store.database import Database

UNAVAILABLE = 3  # what a writer exits with where the database is away
ROOT = Path(__file__).parent.parent

# Forks a writer for each line that it gets, so that Python starts once; a writer says in one line
# what was acknowledged, as soon as it was: "w" for a write, "s" for its score.
WRITER = """
import os, sys
import numpy as np
from deployments.store.database import Answer, Database, DatabaseUnavailable, Observation

vector = np.full(8, 8**-0.5, np.float32)

def write(url, kill):
    database = Database(url, "encoder", 8)
    number = 0
    while True:
        id = f"{kill} {number}"
        text = f"query {number % 50}" if number % 2 else f"query of {id}"
        seen = Observation(text, vector, "small", "answers", output_tokens=10)
        database.write([(seen, Answer(id, "small"))])
        os.write(1, f"w {id}\\n".encode())
        database.score([(id, 0.5)])
        os.write(1, f"s {id}\\n".encode())
        number += 1

for kill, line in enumerate(sys.stdin):
    child = os.fork()
    if not child:
        try:
            write(line.strip(), kill)
        except DatabaseUnavailable:
            os._exit(3)  # UNAVAILABLE
        finally:
            os._exit(4)
    os.write(1, f"pid {child}\\n".encode())
    _, status = os.waitpid(child, 0)
    os.write(1, f"end {status}\\n".encode())
"""


class Writer:
    """A process that writes to a store until it is killed, again and again."""

    def __init__(self, url):
        self.url = url
        self.written, self.scored = [], []
        self.kills = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self):
        """Starts to write; the process's id."""
        self._process.stdin.write(f"{self.url}\n")
        self._process.stdin.flush()
        self.kills += 1
        return int(self._next()[1])

    def until(self, acknowledged):
        """Takes in this many acknowledgements."""
        for _ in range(acknowledged):
            kind, id = self._next()
            {"w": self.written, "s": self.scored}[kind].append(id)

    def ended(self):
        """Takes in all acknowledgements until its end; its exit status."""
        while True:
            kind, id = self._next()
            if kind == "end":
                return int(id)
            {"w": self.written, "s": self.scored}[kind].append(id)

    def close(self):
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()

    def _next(self):
        kind, _, rest = self._process.stdout.readline().strip().partition(" ")
        return kind, rest


@pytest.fixture
def writing():
    """Starts writers, and ends them with the test."""
    writers = []

    def start(url):
        Database(url, "encoder", 8).close()
        writers.append(Writer(url))
        return writers[-1]

    yield start
    for writer in writers:
        writer.close()


def kill(writer):
    """Kills the writer after some acknowledgements, at a moment that it knows nothing of."""
    process = writer.start()
    writer.until(random.randrange(1, 12))
    time.sleep(random.random() * 0.01)
    os.kill(process, signal.SIGKILL)
    assert writer.ended() == signal.SIGKILL


def check(writer, connection):
    """All that was acknowledged is there, and what was not is there whole or not at all."""

    def rows(query):
        return connection.execute(text(query)).all()

    scores = dict(tuple(row) for row in rows("SELECT id, score FROM answers"))
    assert scores.keys() >= set(writer.written)
    assert {id for id, score in scores.items() if score == 0.5} >= set(writer.scored)
    ((answers, scored, quality),) = rows(
        "SELECT sum(answers), sum(scored), sum(quality_sum) FROM outcomes"
    )
    assert answers == len(scores) <= len(writer.written) + writer.kills
    assert scored == len([score for score in scores.values() if score is not None])
    assert quality == float(scored) / 2
    ((queries,),) = rows("SELECT count(*) FROM queries")
    assert len(rows("SELECT DISTINCT query_id FROM outcomes")) == queries


def test_fifty_kills_of_a_writer_to_sqlite(tmp_path, writing):
    url = f"sqlite:///{tmp_path}/store.db"
    writer = writing(url)
    for _ in range(50):
        kill(writer)
        engine = create_engine(url)
        with engine.connect() as connection:
            check(writer, connection)
            assert connection.execute(text("PRAGMA integrity_check")).all() == [("ok",)]
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        engine.dispose()
    assert len(writer.scored) > 50


def test_kills_of_a_writer_to_postgresql(postgresql, writing):
    url = postgresql.database()
    writer = writing(url)
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    for _ in range(8):
        kill(writer)
        with engine.connect() as connection:
            check(writer, connection)
    engine.dispose()


def test_a_kill_of_the_postgresql_server(postgresql, writing):
    url = postgresql.database()
    writer = writing(url)
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), poolclass=NullPool)
    for _ in range(2):
        writer.start()
        writer.until(random.randrange(20, 60))
        postgresql.kill()
        assert os.waitstatus_to_exitcode(writer.ended()) == UNAVAILABLE
        postgresql.start()
        with engine.connect() as connection:
            check(writer, connection)
