"""Promise: threads, processes and machines share a store without losing or repeating anything."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from observed import D, answered, retained, seen

from deployments.store.sql.database import Database


def test_rows_have_revisions_and_a_deletion_is_one_too(database: Database) -> None:
    (id,) = database.write([answered("x")])
    before = database.read([id])[0].revision
    assert before == database.revision()
    database.score([("x", 1.0)])
    ((row,),) = database.rows()
    assert row.revision == database.revision() > before
    assert database.ids() == {id}
    retained(database, None, 0)
    assert database.revision() > row.revision
    assert database.ids() == set()


def test_deletions_by_others_are_distinguished_from_own_ones(
    database: Database, store_url: str
) -> None:
    other = Database(store_url, "encoder", D)
    database.write([seen("a"), seen("b")])
    retained(database, 1)
    assert database.deletions_by_others() == 0
    assert other.deletions_by_others() == 1
    retained(other, 0)
    assert database.deletions_by_others() == 1
    other.close()


def test_what_others_wrote_is_found_exactly_once(database: Database, store_url: str) -> None:
    other = Database(store_url, "encoder", D)
    mine, shared = database.write([seen("mine"), seen("shared")])
    since = database.revision()
    assert other.changed_by_others(0) == [mine, shared]
    theirs, _ = other.write([seen("theirs"), seen("shared")])
    assert sorted(database.changed_by_others(since)) == sorted([theirs, shared])
    assert database.changed_by_others(database.revision()) == []
    other.write([answered("x", "mine")])
    since = database.revision()
    other.score([("x", 1.0)])
    assert database.changed_by_others(since) == [mine]
    other.close()


def test_concurrent_writers_neither_fail_nor_lose_anything(
    database: Database, store_url: str
) -> None:
    other = Database(store_url, "encoder", D)

    def work(number: int) -> Any:
        target = (database, other)[number % 2]
        for turn in range(10):
            queries = [f"query {(number * turn + at) % 7}" for at in range(3)]
            target.write([seen(query, quality=1, output_tokens=turn) for query in queries])
            target.write([answered(f"{number} {turn}", "query 0")])
            assert target.score([(f"{number} {turn}", 0.0)]) != [None]
            target.read([1, 2, 3])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    other.close()
    total = database.stats()["models"]["small"]
    assert total["answers"] == total["scored"] == 8 * 10 * 4
    assert total["quality"] == pytest.approx(0.75)
    assert database.revision() == 8 * 10 * 3


def test_many_threads_share_a_database_in_memory(memory: Database) -> None:
    def work(number: int) -> Any:
        memory.write([seen(f"query {number}", quality=1)])
        return memory.count()

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(work, range(50))) == 50


def test_many_processes_may_create_a_store_at_once(store_url: str) -> None:
    barrier = threading.Barrier(6)

    def work(number: int) -> Any:
        barrier.wait()
        database = Database(store_url, "encoder", D)
        database.write([seen(f"query {number}")])
        return database

    with ThreadPoolExecutor(6) as pool:
        databases = list(pool.map(work, range(6)))
    assert databases[0].count() == 6
    for database in databases:
        database.close()
