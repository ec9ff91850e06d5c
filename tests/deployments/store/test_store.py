"""Promise: an acknowledged write is durable, and copies agree with the database."""

import threading
import time
from collections.abc import Callable, Iterator
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
from deployments.store.copies.folder import Folder
from deployments.store.errors import DatabaseUnavailable, StoreOverloaded
from deployments.store.observations import AnswerRecord, MeanLength, Observation, Scored
from deployments.store.retention import Retention
from deployments.store.sql.database import Database
from deployments.store.sql.forgetting import Selection
from deployments.store.sql.reading import Batch
from deployments.store.store import EmbeddingStore


def failing_once(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, but unavailable at its first call."""
    away = iter([True])

    def once(*arguments: Any) -> Any:
        if next(away, False):
            raise DatabaseUnavailable("away")
        return work(*arguments)

    return once


@pytest.fixture
def store(store_url: str, tmp_path: Path) -> Iterator[EmbeddingStore]:
    store = opened(store_url, tmp_path / "copies")
    yield store
    store.close()


@pytest.fixture
def other(store_url: str, tmp_path: Path) -> Iterator[EmbeddingStore]:
    """Another server's store on the same database."""
    other = opened(store_url, tmp_path / "other copies")
    yield other
    other.close()


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


def test_what_others_write_is_read_by_the_next_sync(
    store: EmbeddingStore, other: EmbeddingStore
) -> None:
    other.observe(seen(1, quality=1.0)).result(PATIENCE_S)
    store.observe(seen(2, quality=1.0)).result(PATIENCE_S)
    assert len(published(store)) == 1
    assert store.sync() == 1
    assert len(published(store)) == 2
    assert store.sync() == 0


def test_lengths_are_in_the_next_copy_after_a_restart_and_at_others_after_a_sync(
    store: EmbeddingStore, other: EmbeddingStore, store_url: str, tmp_path: Path
) -> None:
    json = seen(1, output_tokens=70, shape="json")
    store.observe(json).result(PATIENCE_S)
    store.publish()
    known = (MeanLength("small", "json", 70, 1),)
    assert store.publisher.manifest.lengths == known
    again = opened(store_url, tmp_path / "copies")
    assert again.resume()
    again.publish()
    assert again.publisher.manifest.lengths == known
    again.close()
    for read in (other.sync, other.load):
        read()
        other.publish()
        assert other.publisher.manifest.lengths == known
    store.database.forget(Selection(model="small"))
    other.sync()
    other.publish()
    assert other.publisher.manifest.lengths == ()


def test_what_others_delete_is_dropped_by_the_next_sync(
    store: EmbeddingStore, other: EmbeddingStore, store_url: str, tmp_path: Path
) -> None:
    for number in range(5):
        store.observe(seen(number, quality=1.0)).result(PATIENCE_S)
    again = opened(store_url, tmp_path / "more copies")
    again.load()
    other.database.retention = Retention(most_queries=2)
    assert other.retain() == 3
    assert (store.sync(), len(published(store))) == (0, 2)
    assert ids(store) == store.database.ids()
    again.load()  # loading again instead of syncing drops them too
    assert ids(again) == ids(store)
    again.close()


def test_a_row_that_changes_while_loading_keeps_the_change(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.observe(answered(1, "a")).result(PATIENCE_S)
    stored = store.database.batches

    def changing() -> Iterator[Batch]:
        for batch in stored():
            store.score("a", 1.0).result(PATIENCE_S)
            yield batch

    monkeypatch.setattr(store.database, "batches", changing)
    store.load()
    assert (len(store.publisher.copy), store.publisher.copy.unscored) == (1, 0)


def test_loading_again_forgets_what_was_read_before(
    store: EmbeddingStore, other: EmbeddingStore
) -> None:
    store.observe(answered(1, "a", quality=0.0)).result(PATIENCE_S)  # waits to be published
    other.score("a", 1.0).result(PATIENCE_S)
    store.load()
    assert quality(store, 1) == [1.0]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda database: database.score([("a", 1.0)]), {1.0}),
        (lambda database: database.forget(Selection(source="answers")), set()),
    ],
)
def test_a_row_read_before_a_change_does_not_undo_it(
    store: EmbeddingStore,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Database], object],
    left: set[float],
) -> None:
    store.observe(answered(1, "a", quality=0.0)).result(PATIENCE_S)
    (id,) = store.database.ids()
    read = store.database.batch
    threads: list[threading.Thread] = []

    def change_and_refresh() -> None:
        change(store.database)
        store.refresh([id])

    def slowly(due: list[int]) -> Batch:
        batch = read(due)
        monkeypatch.setattr(store.database, "batch", read)
        before = store.database.revision()
        threads.append(threading.Thread(target=change_and_refresh))
        threads[0].start()
        while store.database.revision() == before:
            time.sleep(0.001)
        threads[0].join(0.05)  # time to read and put, if nothing keeps it from that
        return batch

    monkeypatch.setattr(store.database, "batch", slowly)
    store.refresh([id])
    threads[0].join(PATIENCE_S)
    means = published(store).means()
    assert {float(value) for value in means.quality if not np.isnan(value)} == left


def test_rows_are_reloaded_on_request(store: EmbeddingStore, other: EmbeddingStore) -> None:
    written = other.database.write([seen(number, quality=1.0) for number in range(1200)])
    store.refresh([*written, 9999])
    assert ids(store) == set(written)


def test_a_row_that_could_not_be_read_back_is_read_by_the_next_write_or_sync(
    store: EmbeddingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, mend in enumerate(
        [lambda: store.observe(seen(9)).result(PATIENCE_S), store.sync, store.refresh]
    ):
        monkeypatch.setattr(store.database, "batch", failing_once(store.database.batch))
        store.observe(seen(number)).result(PATIENCE_S)
        assert ids(store) != store.database.ids()
        mend()
        assert ids(store) == store.database.ids()


def test_what_retention_deletes_is_dropped_from_copies_too(store: EmbeddingStore) -> None:
    for number in range(5):
        store.observe(seen(number, quality=1.0)).result(PATIENCE_S)
    store.database.retention = Retention(most_queries=2)
    assert store.retain() == 3
    assert (len(published(store)), store.database.count()) == (2, 2)
    assert published(store).neighbours(vector(0)[None], 5).ids.shape == (1, 2)


def test_the_bound_holds_in_copies_under_load(store: EmbeddingStore) -> None:
    store.database.retention = Retention(most_queries=10)
    for start in range(0, 400, 100):
        numbers = range(start, start + 100)
        futures = [store.observe(answered(number, f"{number}")) for number in numbers]
        for future in futures:
            future.result(PATIENCE_S)
        assert published(store).unscored == 10
        assert ids(store) == store.database.ids()
    # The query is gone, but the score still counts for the policy.
    assert store.score("0", 1.0).result(PATIENCE_S) == Scored("small", 0.8, "policy", None)
    assert len(published(store)) == 0


def test_what_others_write_is_read_while_answers_are_written(
    store: EmbeddingStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.load()
    other = Database(store_url, "encoder", D)
    other.write([seen(0, identity="", quality=1.0)])
    adopt = store.database.adopt

    def adopt_later(ids: Any = None) -> None:
        for number in (1, 2):  # the second arrives when the first one's rows have been read
            store.observe(seen(number)).result(PATIENCE_S)
        adopt(ids)

    monkeypatch.setattr(store.database, "adopt", adopt_later)
    store.sync()
    assert len(published(store)) == 1
    other.close()


def test_what_others_write_beyond_the_bound_is_not_kept(
    store: EmbeddingStore, store_url: str
) -> None:
    store.database.retention = Retention(most_queries=10)
    other = Database(store_url, "encoder", D)
    other.write([seen(number, quality=1.0) for number in range(50)])
    store.sync()
    assert len(published(store)) == store.database.count() == 10
    assert ids(store) == other.ids()
    other.close()


def test_an_import_counts_for_the_model_served_when_it_is_read(
    store: EmbeddingStore, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Database(store_url)
    other.write([seen(1, identity="", quality=1.0)])
    with monkeypatch.context() as patch:
        patch.setattr(store.database, "adopt", failing_once(store.database.adopt))
        with pytest.raises(DatabaseUnavailable):
            store.sync()
        store.sync()
    assert len(published(store)) == 1
    assert other.stats()["models"]["small"]["identities"] == {IDENTITIES["small"]: 1}
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
    store.observe(answered(1, "a")).result(PATIENCE_S)
    scored = store.score("a", 0.5).result(PATIENCE_S)
    assert next(breaks, None) is None
    assert scored == Scored("small", 0.8, "policy", None)
    small = store.database.stats()["models"]["small"]
    assert (small["answers"], small["scored"], small["quality"]) == (1, 1, 0.5)


def test_a_snapshot_has_texts_and_outcomes(store: EmbeddingStore) -> None:
    for number in range(3):
        store.observe(seen(number, quality=number / 2)).result(PATIENCE_S)
    store.publish()
    sample = store.publisher.sample(10, np.random.default_rng(0))
    snapshot = store.snapshot([*sample, 999])
    assert snapshot.queries == ["query 0", "query 1", "query 2"]
    assert snapshot.quality[:, 0].tolist() == [0, 0.5, 1]
    assert snapshot.freshness is None


def test_old_scores_count_less_in_a_snapshot(tmp_path: Path) -> None:
    database = Database("sqlite://", "encoder", D, identities=IDENTITIES)
    store = EmbeddingStore(database, Folder(tmp_path), half_life_days=10)
    ago = time.time() - 10 * 86_400
    store.observe(seen(0, quality=1.0, scored_at=ago)).result(PATIENCE_S)
    store.observe(seen(1, quality=1.0)).result(PATIENCE_S)
    store.publish()
    snapshot = store.snapshot(sorted(store.database.ids()))
    assert snapshot.freshness is not None
    assert snapshot.freshness[:, 0] == pytest.approx([0.5, 1.0], rel=1e-3)
    assert snapshot.means().count[0] == pytest.approx(1.5, rel=1e-3)
    store.close()


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
