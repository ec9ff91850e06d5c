"""Promise: copies agree with the database, whoever writes to it, and while it is read."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
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

from deployments.store.copies.folder import Folder
from deployments.store.errors import DatabaseUnavailable
from deployments.store.observations import MeanLength, Scored
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


@pytest.mark.parametrize("is_scored", [False, True])
def test_an_import_counts_for_queries_that_change_before_it_is_read(
    store: EmbeddingStore, store_url: str, *, is_scored: bool
) -> None:
    store.observe(answered(1, "answer")).result(PATIENCE_S)
    other = Database(store_url)
    other.write([seen(1, identity="", quality=1.0)])
    if is_scored:
        store.score("answer", 0.5).result(PATIENCE_S)
    else:
        store.observe(seen(1)).result(PATIENCE_S)
    store.sync()
    assert quality(store, 1) == [0.75 if is_scored else 1.0]
    other.close()


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
