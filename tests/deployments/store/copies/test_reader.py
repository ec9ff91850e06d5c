"""Promise: a process follows the copies in a folder, and what it has opened stays usable."""

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from batches import MODELS, SCORED_AT, D, batch, unit

from deployments.store.ageing import Ageing
from deployments.store.copies.copy import Copy
from deployments.store.copies.folder import Folder, Manifest
from deployments.store.copies.publisher import Publisher
from deployments.store.copies.reader import Reader


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def publisher(folder: Folder) -> Publisher:
    about = Manifest(store="s", embedding_model="e", dimensions=D, models=MODELS)
    publisher = Publisher(folder, about)
    publisher.rebuild(iter([batch(range(1, 51), 1.0)]))
    return publisher


def test_what_two_copies_have_in_common_is_opened_once(
    folder: Folder, publisher: Publisher
) -> None:
    reader = Reader(folder)
    first = reader.copy(publisher.manifest, MODELS)
    publisher.put(batch([51], 1.0))
    publisher.publish()
    second = reader.copy(publisher.manifest, MODELS)
    assert [segment in first.segments for segment in second.segments] == [True, False]
    assert (len(first), len(second)) == (50, 51)


def test_an_open_copy_answers_when_its_files_are_gone(folder: Folder, publisher: Publisher) -> None:
    copy = Reader(folder).copy(publisher.manifest, MODELS)
    copy.prepare()
    for path in folder.path.glob("large-*"):
        shutil.rmtree(path)
    assert copy.neighbours(unit([7]), 3).ids[0, 0] == 7


def test_a_copy_whose_files_are_gone_is_an_error_that_ends_with_the_next_copy(
    folder: Folder, publisher: Publisher
) -> None:
    reader, old = Reader(folder), publisher.manifest
    publisher.rebuild(iter([batch(range(1, 61), 1.0)]))
    shutil.rmtree(folder.path / old.segments[0])
    with pytest.raises(OSError, match=old.segments[0]):
        reader.copy(old, MODELS)
    assert len(reader.copy(publisher.manifest, MODELS)) == 60


def test_models_are_matched_by_name_and_identity(folder: Folder, publisher: Publisher) -> None:
    copy = Reader(folder).copy(publisher.manifest, [("other", "c"), ("small", "a")])
    assert copy.means().count.tolist() == [0, 50]
    assert copy.neighbours(unit([1]), 1).outcomes.column.tolist() == [1]
    copy = Reader(folder).copy(publisher.manifest, [("small", "another"), ("large", "b")])
    assert copy.means().count.tolist() == [0, 0]
    assert not len(copy.neighbours(unit([1]), 1).outcomes.column)


def test_threads_search_while_copies_are_published(folder: Folder, publisher: Publisher) -> None:
    reader, failures = Reader(folder), list[BaseException]()
    latest = [reader.copy(publisher.manifest, MODELS)]
    done = threading.Event()

    def search() -> None:
        try:
            while not done.is_set():
                near = latest[0].neighbours(unit([3]), 16)
                assert near.ids[0, 0] == 3
                assert near.outcomes.quality.shape == (16,)
                assert np.isfinite(latest[0].means().quality[0])
        except BaseException as error:  # noqa: BLE001 - reported to the test
            failures.append(error)

    searching = [threading.Thread(target=search) for _ in range(2)]
    for thread in searching:
        thread.start()
    for start in range(100, 300, 20):
        publisher.put(batch(range(start, start + 20), 0.5))
        publisher.remove(range(start, start + 10))
        publisher.publish()
        latest[0] = reader.copy(publisher.manifest, MODELS)
    done.set()
    for thread in searching:
        thread.join()
    assert not failures
    assert len(latest[0]) == 50 + 10 * 10


def test_in_a_copy_scores_count_as_they_do_when_it_is_opened(
    folder: Folder, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    for days, share in ((0, 1.0), (30, 0.5), (60, 0.25)):
        monkeypatch.setattr(time, "time", lambda days=days: SCORED_AT + days * 86_400)
        copy = Reader(folder, half_life_days=30).copy(publisher.manifest, MODELS)
        freshness = copy.neighbours(unit([1]), 4).outcomes.freshness
        assert freshness is not None
        assert freshness.tolist() == [share] * 4
        assert copy.means().count.tolist() == [50 * share, 0]
    plain = Reader(folder).copy(publisher.manifest, MODELS)
    assert plain.neighbours(unit([1]), 4).outcomes.freshness is None


def test_two_copies_that_are_opened_at_once_are_not_mixed_up(
    folder: Folder, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publisher.manifest
    publisher.put(batch([51], 1.0))
    publisher.publish()
    second, reader = publisher.manifest, Reader(folder)
    others: list[Copy] = []

    def present(half_life_days: float | None) -> None:
        if not others:  # by now the first copy's files are open
            others.append(Copy([], len(MODELS)))
            others[0] = reader.copy(second, MODELS)

    monkeypatch.setattr(Ageing, "at_present", present)
    assert len(reader.copy(first, MODELS)) == 50
    assert len(others[0]) == 51
