"""Promise: a store that starts again reads only what has changed, and then knows everything."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from stores import PATIENCE_S, answered, ids, opened, quality, seen

from deployments.store.retention import Retention
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore


def restarted(url: str, folder: Path) -> EmbeddingStore:
    """A store that has started as a server starts one."""
    store = opened(url, folder)
    if not store.resume():
        store.load()
    store.sync()
    return store


def test_a_restart_after_a_crash_at_any_point_misses_nothing(
    store_url: str, tmp_path: Path
) -> None:
    store, others = opened(store_url, tmp_path / "copies"), Database(store_url)

    def write_and_publish() -> None:
        store.observe(answered(1, "a")).result(PATIENCE_S)
        store.observe(seen(2, quality=0.0)).result(PATIENCE_S)
        store.publish()

    def deletes(database: Database, most: int) -> Callable[[], object]:
        def delete() -> None:
            database.retention = Retention(most_queries=most)
            database.retain()

        return delete

    steps: list[Callable[[], object]] = [
        lambda: store.observe(seen(0, quality=1.0)).result(PATIENCE_S),
        store.load,
        write_and_publish,
        store.sync,
        store.publish,
        lambda: store.score("a", 0.5).result(PATIENCE_S),
        lambda: others.write([seen(number, quality=0.25) for number in range(3, 6)]),
        store.sync,
        store.publish,
        deletes(others, 5),
        store.sync,
        deletes(store.database, 4),
        store.publish,
        deletes(store.database, 3),
        deletes(others, 2),
        store.sync,
        store.publish,
    ]
    resumed = 0
    for number, step in enumerate(steps):
        step()
        crashed = tmp_path / f"crashed {number}"
        shutil.copytree(tmp_path / "copies", crashed)
        again = restarted(store_url, crashed)
        resumed += again.loaded == 0
        known = {row.id: row for batch in again.database.rows() for row in batch}
        assert ids(again) == known.keys()
        qualities = [row.outcomes["small"].quality for row in known.values()]
        true = [value for value in qualities if value is not None]
        assert again.publisher.copy.means().quality[0] == pytest.approx(np.mean(true), abs=1e-3)
        again.close()
    assert resumed == len(steps) - 1
    store.close()
    others.close()


def test_a_backup_that_took_the_databases_place_is_read_anew(tmp_path: Path) -> None:
    file, backup = tmp_path / "store.db", tmp_path / "backup.db"
    url, folder = f"sqlite:///{file}", tmp_path / "copies"
    first = restarted(url, folder)
    first.observe(answered(1, "a", quality=0.0)).result(PATIENCE_S)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("VACUUM INTO ?", [str(backup)])
    first.score("a", 1.0).result(PATIENCE_S)
    first.observe(seen(2, quality=1.0)).result(PATIENCE_S)
    first.sync()
    assert quality(first, 1) == [1.0]
    first.close()
    for part in tmp_path.glob("store.db*"):
        part.unlink()
    backup.rename(file)
    again = restarted(url, folder)
    assert ids(again) == again.database.ids()
    assert quality(again, 1) == [0.0]
    again.close()


def test_a_damaged_copy_is_made_anew(tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path}/store.db", tmp_path / "copies"
    first = opened(url, folder)
    first.observe(seen(1, quality=1.0)).result(PATIENCE_S)
    first.load()
    first.close()
    (damaged,) = folder.glob("large-*/vectors.npy")
    damaged.write_bytes(bytes(damaged.stat().st_size))
    again = restarted(url, folder)
    assert again.loaded == 1
    assert quality(again, 1) == [1.0]
    again.close()


def test_the_times_of_scores_outlast_a_restart(tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path}/store.db", tmp_path / "copies"
    first = opened(url, folder)
    first.observe(seen(1, quality=1.0, scored_at=1e9)).result(PATIENCE_S)
    first.observe(seen(2, output_tokens=5)).result(PATIENCE_S)
    first.load()
    first.close()
    for known in (restarted(url, folder), restarted(url, tmp_path / "read anew")):
        (segment,) = known.publisher.copy.segments
        assert segment.table.scored_at.tolist() == [1e9, 0]
        known.close()
