"""Promise: an acknowledged write is durable and counts once, and a bad one fails alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from postgres_fixtures import PostgreSQL
from stores import (
    IDENTITIES,
    PATIENCE_S,
    D,
    answered,
    ids,
    opened,
    published,
    quality,
    seen,
    vector,
)

from deployments.store import store as module
from deployments.store.errors import DatabaseUnavailable, StoreOverloaded
from deployments.store.observations import AnswerRecord, Observation, Scored
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore


def test_an_acknowledged_write_is_found_in_the_next_copy_and_after_a_restart(
    store: EmbeddingStore, other: EmbeddingStore
) -> None:
    futures = [store.observe(seen(number, output_tokens=number)) for number in range(700)]
    for future in futures:
        future.result(PATIENCE_S)
    assert published(store).unscored == 700
    for _ in range(2):
        other.load()
        assert (other.loaded, other.publisher.copy.unscored) == (700, 700)
    near = other.publisher.copy.neighbours(vector(300)[None], 1)
    assert near.outcomes.output_tokens == [300]


def test_a_score_finds_an_answer_written_just_before(store: EmbeddingStore) -> None:
    store.observe(answered(1, "a", output_tokens=5))
    scored = store.score("a", 0.25).result(PATIENCE_S)
    assert scored == Scored("small", 0.8, "policy", None)
    assert len(published(store)) == 1
    assert quality(store, 1) == [0.25]
    again = store.score("a", 0.75).result(PATIENCE_S)
    assert again is not None
    assert again.replaced == 0.25
    assert quality(store, 1) == [0.75]
    assert store.score("b", 1).result(PATIENCE_S) is None


def test_a_score_that_replaces_none_stays_out_where_there_is_one(store: EmbeddingStore) -> None:
    store.observe(answered(1, "a", output_tokens=5))
    first = store.score("a", 0.25, replace=False).result(PATIENCE_S)
    assert first == Scored("small", 0.8, "policy", None)
    assert store.score("a", 1.0, replace=False).result(PATIENCE_S) is None
    assert quality(store, 1) == [0.25]
    given = store.score("a", 0.75).result(PATIENCE_S)
    assert given is not None
    assert given.replaced == 0.25
    assert store.score("a", 0.0, replace=False).result(PATIENCE_S) is None
    assert quality(store, 1) == [0.75]


def test_an_answer_without_its_query_can_be_scored_and_is_in_no_copy(
    store: EmbeddingStore,
) -> None:
    record = AnswerRecord("a", "small", 0.8, "policy", identity=IDENTITIES["small"])
    store.observe(record).result(PATIENCE_S)
    assert store.score("a", 1.0).result(PATIENCE_S) == Scored("small", 0.8, "policy", None)
    assert ids(store) == set()


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan")])
def test_a_score_out_of_range_is_refused(store: EmbeddingStore, score: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        store.score("a", score)


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
    store.observe(answered(1, "a")).result(PATIENCE_S)
    scored = store.score("a", 0.5).result(PATIENCE_S)
    assert next(breaks, None) is None
    assert scored == Scored("small", 0.8, "policy", None)
    small = store.database.stats()["models"]["small"]
    assert (small["answers"], small["scored"], small["quality"]) == (1, 1, 0.5)


def test_a_short_outage_of_the_database_loses_nothing(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    store = opened(postgresql.database(), tmp_path)
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


def test_closing_writes_what_is_waiting(store_url: str, tmp_path: Path) -> None:
    store = opened(store_url, tmp_path)
    for number in range(50):
        store.observe(seen(number))
    store.close()
    again = opened(store_url, tmp_path)
    assert again.database.count() == 50
    again.close()
