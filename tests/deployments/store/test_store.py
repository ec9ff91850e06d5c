"""Promise: an acknowledged write is durable, and memory agrees with the database."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from postgres_fixtures import PostgreSQL

from deployments.store import store as module
from deployments.store.errors import DatabaseUnavailable, StoreOverloaded
from deployments.store.observations import AnswerRecord, Observation, Scored, StoredRow
from deployments.store.retention import Retention
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore

D = 8
PATIENCE_S = 60


def vector(seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed).normal(size=D).astype(np.float32)
    return numbers / np.linalg.norm(numbers)


def seen(number: int, **known: object) -> Observation:
    return Observation(f"query {number}", vector(number), "small", "answers", **known)  # type: ignore[arg-type]


def opened(url: str) -> EmbeddingStore:
    return EmbeddingStore(Database(url, "encoder", D), ["small", "large"], D)


def failing_once(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, but unavailable at its first call."""
    away = iter([True])

    def once(*arguments: Any) -> Any:
        if next(away, False):
            raise DatabaseUnavailable("away")
        return work(*arguments)

    return once


@pytest.fixture
def store(store_url: str) -> Iterator[EmbeddingStore]:
    store = opened(store_url)
    yield store
    store.close()


def test_an_acknowledged_write_is_found_at_once_and_after_a_restart(
    store: EmbeddingStore, store_url: str
) -> None:
    futures = [store.observe(seen(number, output_tokens=number)) for number in range(700)]
    for future in futures:
        future.result(PATIENCE_S)
    assert store.rows.unscored == 700
    again = opened(store_url)
    again.load()
    assert (again.loaded, again.rows.unscored) == (700, 700)
    again.load()
    assert (again.loaded, again.rows.unscored) == (700, 700)
    near = again.rows.neighbours(vector(300)[None], 1)
    assert near.outcomes.output_tokens == [300]
    again.close()


def test_a_score_finds_an_answer_written_just_before(store: EmbeddingStore) -> None:
    store.observe(seen(1, output_tokens=5), AnswerRecord("a", "small", 0.8, "policy"))
    scored = store.score("a", 0.25).result(PATIENCE_S)
    assert scored == Scored("small", 0.8, "policy", None)
    assert len(store.rows) == 1
    assert store.rows.neighbours(vector(1)[None], 1).outcomes.quality == [0.25]
    again = store.score("a", 0.75).result(PATIENCE_S)
    assert again is not None
    assert again.replaced == 0.25
    assert store.rows.neighbours(vector(1)[None], 1).outcomes.quality == [0.75]
    assert store.score("b", 1).result(PATIENCE_S) is None


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_out_of_range_is_refused(store: EmbeddingStore, score: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        store.score("a", score)


def test_what_others_write_is_read_by_the_next_sync(store: EmbeddingStore, store_url: str) -> None:
    other = opened(store_url)
    other.observe(seen(1, quality=1.0)).result(PATIENCE_S)
    store.observe(seen(2, quality=1.0)).result(PATIENCE_S)
    assert len(store.rows) == 1
    assert store.sync() == 1
    assert len(store.rows) == 2
    assert store.sync() == 0
    other.close()


def test_what_others_delete_is_dropped_by_the_next_sync(
    store: EmbeddingStore, store_url: str
) -> None:
    other = opened(store_url)
    for number in range(5):
        store.observe(seen(number, quality=1.0)).result(PATIENCE_S)
    again = opened(store_url)
    again.load()
    other.database.retention = Retention(most_queries=2)
    assert other.retain() == 3
    assert (store.sync(), len(store.rows)) == (0, 2)
    assert store.rows.ids() == store.database.ids()
    again.load()  # loading again instead of syncing drops them too
    assert again.rows.ids() == store.rows.ids()
    again.close()
    other.close()


def test_a_row_that_changes_while_loading_keeps_the_change(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.observe(seen(1), AnswerRecord("a", "small")).result(PATIENCE_S)
    stored = store.database.rows

    def changing() -> Iterator[list[StoredRow]]:
        for batch in stored():
            store.score("a", 1.0).result(PATIENCE_S)
            yield batch

    monkeypatch.setattr(store.database, "rows", changing)
    store.load()
    assert (len(store.rows), store.rows.unscored) == (1, 0)


def test_rows_are_reloaded_on_request(store: EmbeddingStore, store_url: str) -> None:
    other = Database(store_url, "encoder", D)
    ids = other.write([seen(number, quality=1.0) for number in range(1200)])
    store.refresh([*ids, 9999])
    assert store.rows.ids() == set(ids)
    other.close()


def test_a_row_that_could_not_be_read_back_is_read_by_the_next_write_or_sync(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, mend in enumerate(
        [lambda: store.observe(seen(9)).result(PATIENCE_S), store.sync, store.refresh]
    ):
        monkeypatch.setattr(store.database, "read", failing_once(store.database.read))
        store.observe(seen(number)).result(PATIENCE_S)
        assert store.rows.ids() != store.database.ids()
        mend()
        assert store.rows.ids() == store.database.ids()


def test_what_retention_deletes_is_dropped_from_memory_too(store: EmbeddingStore) -> None:
    for number in range(5):
        store.observe(seen(number, quality=1.0)).result(PATIENCE_S)
    store.database.retention = Retention(most_queries=2)
    assert store.retain() == 3
    assert (len(store.rows), store.database.count()) == (2, 2)
    assert store.rows.neighbours(vector(0)[None], 5).ids.shape == (1, 2)


def test_the_bound_holds_in_memory_under_load(store: EmbeddingStore) -> None:
    store.database.retention = Retention(most_queries=10)
    for start in range(0, 400, 100):
        futures = [
            store.observe(seen(number), AnswerRecord(f"{number}", "small", 0.8, "policy"))
            for number in range(start, start + 100)
        ]
        for future in futures:
            future.result(PATIENCE_S)
        assert store.rows.unscored == 10
        assert store.rows.ids() == store.database.ids()
    # The query is gone, but the score still counts for the policy.
    assert store.score("0", 1.0).result(PATIENCE_S) == Scored("small", 0.8, "policy", None)
    assert len(store.rows) == 0


def test_what_others_write_is_read_while_answers_are_written(store_url: str) -> None:
    database = Database(store_url, "encoder", D, identities={"small": "openai/a"})
    store = EmbeddingStore(database, ["small"], D)
    store.load()
    other = Database(store_url, "encoder", D)
    other.write([seen(0, quality=1.0)])
    adopt = database.adopt

    def adopt_later(ids: Any = None) -> None:
        for number in (1, 2):  # the second arrives when the first one's rows have been read
            store.observe(seen(number)).result(PATIENCE_S)
        adopt(ids)

    database.adopt = adopt_later  # type: ignore[method-assign]
    store.sync()
    assert len(store.rows) == 1
    store.close()
    other.close()


def test_what_others_write_beyond_the_bound_is_not_kept(
    store: EmbeddingStore, store_url: str
) -> None:
    store.database.retention = Retention(most_queries=10)
    other = Database(store_url, "encoder", D)
    other.write([seen(number, quality=1.0) for number in range(50)])
    store.sync()
    assert len(store.rows) == store.database.count() == 10
    assert store.rows.ids() == other.ids()
    other.close()


def test_an_import_counts_for_the_model_served_when_it_is_read(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(store_url, "encoder", D, identities={"small": "openai/first"})
    store, other = EmbeddingStore(database, ["small"], D), Database(store_url)
    other.write([seen(1, quality=1.0)])
    with monkeypatch.context() as patch:
        patch.setattr(database, "adopt", failing_once(database.adopt))
        with pytest.raises(DatabaseUnavailable):
            store.sync()
        store.sync()
    assert len(store.rows) == 1
    assert other.stats()["models"]["small"]["identities"] == {"openai/first": 1}
    store.close()
    other.close()


def test_a_bad_write_fails_its_own_future_and_the_next_one_works(store: EmbeddingStore) -> None:
    wrong = Observation("query", np.ones(D + 1, np.float32), "small", "answers")
    with pytest.raises(ValueError, match="embedding"):
        store.observe(wrong).result(PATIENCE_S)
    store.observe(seen(1)).result(PATIENCE_S)


def test_a_bad_write_does_not_fail_others_of_its_batch(
    store: EmbeddingStore, store_url: str
) -> None:
    other = Database(store_url, "encoder", D)
    with other._connections.writing():  # so that all but the first share a transaction
        first = store.observe(seen(0))
        futures = [store.observe(seen(number)) for number in range(1, 40)]
        wrong = Observation("query", np.ones(D + 1, np.float32), "small", "answers")
        bad = store.observe(wrong)
        futures += [store.observe(seen(number)) for number in range(40, 80)]
    for future in (first, *futures):
        future.result(PATIENCE_S)
    with pytest.raises(ValueError, match="embedding"):
        bad.result(PATIENCE_S)
    assert other.count() == 80
    other.close()


def test_a_write_committed_as_the_connection_broke_counts_once(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = store.database._connections.writing
    breaks = iter([True, False, True])

    @contextmanager
    def breaking() -> Iterator[Any]:
        with writing() as connection:
            yield connection
        if next(breaks, False):
            raise DatabaseUnavailable("the connection broke after the commit")

    monkeypatch.setattr(store.database._connections, "writing", breaking)
    store.observe(seen(1), AnswerRecord("a", "small", 0.8, "policy")).result(PATIENCE_S)
    scored = store.score("a", 0.5).result(PATIENCE_S)
    assert next(breaks, None) is None
    assert scored == Scored("small", 0.8, "policy", None)
    small = store.database.stats()["models"]["small"]
    assert (small["answers"], small["scored"], small["quality"]) == (1, 1, 0.5)


def test_a_snapshot_has_texts_and_outcomes(store: EmbeddingStore) -> None:
    for number in range(3):
        store.observe(seen(number, quality=number / 2)).result(PATIENCE_S)
    ids = store.rows.sample(10, np.random.default_rng(0))
    snapshot = store.snapshot([*ids, 999])
    assert snapshot.queries == ["query 0", "query 1", "query 2"]
    assert snapshot.quality[:, 0].tolist() == [0, 0.5, 1]


def test_a_short_outage_of_the_database_loses_nothing(postgresql: PostgreSQL) -> None:
    store = opened(postgresql.database())
    postgresql.kill()
    futures = [store.observe(seen(number)) for number in range(3)]
    postgresql.start()
    for future in futures:
        future.result(PATIENCE_S)
    assert store.database.count() == 3
    store.close()


def test_writes_beyond_the_queues_bound_are_refused_at_once(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, going = threading.Event(), threading.Event()

    def slow(*args: object) -> list[int]:
        going.set()
        held.wait(PATIENCE_S)
        return []

    monkeypatch.setattr(store.database, "write", slow)
    first, one = store.observe(seen(0)), seen(1)
    assert going.wait(PATIENCE_S)
    waiting = [store.observe(one) for _ in range(module._MOST_WAITING)]
    with pytest.raises(StoreOverloaded):
        store.observe(one)
    held.set()
    for future in (first, *waiting):
        future.result(PATIENCE_S)


def test_closing_writes_what_is_waiting(store_url: str) -> None:
    store = opened(store_url)
    for number in range(50):
        store.observe(seen(number))
    store.close()
    again = opened(store_url)
    assert again.database.count() == 50
    again.close()
