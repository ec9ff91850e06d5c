"""Promise: a store of an earlier version opens with everything in it, and its tables are then the
same as a new one's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, make_url, text

from deployments.store.copies.folder import Folder
from deployments.store.observations import AnswerRecord, Observation, Outcome, Scored
from deployments.store.sql import migrating
from deployments.store.sql.database import Database
from deployments.store.sql.migrating import VERSION_TABLE
from deployments.store.sql.schema import metadata
from deployments.store.store import EmbeddingStore

D = 8
VECTOR = np.eye(D, dtype=np.float32)[0]

# The tables of the first version, before databases had a version. They never change.
UNVERSIONED = """
CREATE TABLE queries (
    id {serial}, key {bytes} NOT NULL, characters FLOAT, input_tokens FLOAT,
    updated_at FLOAT NOT NULL, revision BIGINT NOT NULL, writer BIGINT NOT NULL,
    embedding {bytes} NOT NULL, text TEXT NOT NULL, UNIQUE (key));
CREATE INDEX ix_queries_revision ON queries (revision);
CREATE INDEX ix_queries_updated_at ON queries (updated_at);
CREATE TABLE state (name VARCHAR NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name));
CREATE TABLE answers (
    id VARCHAR NOT NULL, query_id {integer} NOT NULL, model VARCHAR NOT NULL, predicted FLOAT,
    policy VARCHAR, score FLOAT, cost FLOAT, at FLOAT NOT NULL, PRIMARY KEY (id),
    FOREIGN KEY(query_id) REFERENCES queries (id) ON DELETE CASCADE) {without_rowid};
CREATE INDEX ix_answers_at ON answers (at);
CREATE INDEX ix_answers_query_id ON answers (query_id);
CREATE TABLE outcomes (
    query_id {integer} NOT NULL, model VARCHAR NOT NULL, source VARCHAR NOT NULL,
    quality_sum FLOAT NOT NULL, scored BIGINT NOT NULL, tokens_sum FLOAT NOT NULL,
    counted BIGINT NOT NULL, seconds_sum FLOAT NOT NULL, timed BIGINT NOT NULL,
    answers BIGINT NOT NULL, updated_at FLOAT NOT NULL, PRIMARY KEY (query_id, model, source),
    FOREIGN KEY(query_id) REFERENCES queries (id) ON DELETE CASCADE) {without_rowid};
CREATE TABLE reembedded (
    query_id {integer} NOT NULL, embedding {bytes} NOT NULL, PRIMARY KEY (query_id),
    FOREIGN KEY(query_id) REFERENCES queries (id) ON DELETE CASCADE);
"""
DIALECTS = {
    "sqlite": {
        "serial": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
        "integer": "INTEGER",
        "bytes": "BLOB",
        "without_rowid": "WITHOUT ROWID",
    },
    "postgresql": {
        "serial": "BIGSERIAL NOT NULL PRIMARY KEY",
        "integer": "BIGINT",
        "bytes": "BYTEA",
        "without_rowid": "",
    },
}


def engine_of(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed.set(drivername="postgresql+psycopg"))
    Path(str(parsed.database)).parent.mkdir(exist_ok=True)
    return create_engine(parsed)


def make_old(connection: Connection) -> None:
    """A store of the first version: two queries, one of them scored, and two answers."""
    for statement in UNVERSIONED.format(**DIALECTS[connection.dialect.name]).split(";")[:-1]:
        connection.exec_driver_sql(statement)

    def insert(table: str, **row: Any) -> None:
        places = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})"), row)

    header = {"schema": 1, "embedding_model": "encoder", "dimensions": D, "revision": 3}
    insert("state", name="store", value=json.dumps(header))
    insert("state", name="policies:0123", value='{"p": {"requirement": 0.7}}')
    for number, query in ((1, "scored"), (2, "unscored")):
        insert(
            "queries",
            key=query.encode().ljust(32),
            updated_at=2e9,
            revision=number,
            writer=1,
            embedding=VECTOR.astype("<f2").tobytes(),
            text=query,
        )
    names = ("query_id", "quality_sum", "scored", "tokens_sum", "counted", "timed", "answers")
    for sums in ((1, 1.5, 2, 30, 3, 3, 3), (2, 0, 0, 7, 1, 1, 1)):
        known = dict(zip(names, sums, strict=True))
        about = {"model": "small", "source": "answers", "seconds_sum": 1, "updated_at": 2e9}
        insert("outcomes", **known, **about)
    more = {"model": "small", "predicted": 0.7, "policy": "p", "at": 2e9}
    insert("answers", id="rated", query_id=1, score=0.5, **more)
    insert("answers", id="waiting", query_id=2, score=None, **more)


@pytest.fixture(params=["1", "2", "3", "4", "5"])
def old_url(request: pytest.FixtureRequest, store_url: str) -> str:
    """A store of each earlier version."""
    engine = engine_of(store_url)
    with engine.begin() as connection:
        make_old(connection)
        migrating._context(connection).stamp(migrating._scripts(), "1")
        config = migrating._config()
        config.attributes["connection"] = connection
        command.upgrade(config, request.param)
    engine.dispose()
    return store_url


def test_a_store_of_an_earlier_version_opens_with_all_that_it_holds(old_url: str) -> None:
    database = Database(old_url, "encoder", D)
    rows = {row.query: row.outcomes["small"] for batch in database.rows() for row in batch}
    assert rows == {"scored": Outcome(0.75, 10, 2), "unscored": Outcome(None, 7, 1)}
    # When it was scored is unknown, but when it changed last is not.
    assert {query: known.scored_at for query, known in rows.items()} == {
        "scored": 2e9,
        "unscored": None,
    }
    assert database.state.get("policies:0123") == {"p": {"requirement": 0.7}}
    assert database.count() == database.stats()["queries"] == 2
    assert database.score([("waiting", 1.0), ("rated", 1.0)]) == [
        (2, Scored("small", 0.7, "p", None)),
        (1, Scored("small", 0.7, "p", 0.5)),
    ]
    assert database.owners.may_score("rated", "any key")
    json = Observation("new", VECTOR, "small", "answers", output_tokens=40, shape="json")
    database.write([(json, AnswerRecord("x", "small", chosen=True, propensity=0.1, key="team"))])
    assert not database.owners.may_score("x", "any key")
    assert database.stats()["answers"] == 3
    assert database.stats()["models"]["small"]["shapes"]["json"]["output_tokens"] == 40
    database.close()
    again = Database(old_url)  # up to date now: nothing to do
    assert again.count() == 3
    assert again.id == database.id
    again.close()


def test_what_it_holds_counts_for_the_model_that_is_served_first(
    old_url: str, tmp_path: Path
) -> None:
    def scored(identity: str) -> int:
        database = Database(old_url, "encoder", D, identities={"small": identity})
        store = EmbeddingStore(database, Folder(tmp_path / "copies"))
        store.load()
        store.close()
        return len(store.publisher.copy)

    assert scored("openai/first") == 1
    assert scored("openai/another") == 0
    assert scored("openai/first") == 1


def test_its_tables_are_then_the_same_as_those_of_a_new_one(old_url: str) -> None:
    Database(old_url).close()
    engine = engine_of(old_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
        if connection.dialect.name == "sqlite":
            # Alembic doesn't know about this.
            made = connection.execute(
                text("SELECT name FROM sqlite_master WHERE sql LIKE '%WITHOUT ROWID%'")
            )
            assert set(made.scalars()) == {"answers", "lengths", "outcomes"}
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
    engine.dispose()


def test_a_migration_that_fails_leaves_the_store_as_it_was(
    old_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic.runtime.migration import MigrationContext

    def fail(self: MigrationContext) -> None:
        raise RuntimeError("the disk is full")

    def header() -> Any:
        with engine.connect() as connection:
            wanted = text("SELECT value FROM state WHERE name = 'store'")
            return json.loads(str(connection.execute(wanted).scalar()))

    engine = engine_of(old_url)
    before = header()
    run = MigrationContext.run_migrations

    def run_and_fail(self: MigrationContext, **more: Any) -> None:
        run(self, **more)
        fail(self)

    with monkeypatch.context() as patch:
        patch.setattr(MigrationContext, "run_migrations", run_and_fail)
        with pytest.raises(RuntimeError, match="disk"):
            Database(old_url)
    assert header() == before
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM outcomes")).scalar() == 2
        columns = inspect(connection).get_columns("outcomes")
        assert "scored_at" not in {column["name"] for column in columns}
    engine.dispose()
    database = Database(old_url)
    assert database.count() == 2
    database.close()
