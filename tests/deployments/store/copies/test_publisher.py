"""Promise: a copy says what the store was last told, however it came to its segments."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import MODELS, D, batch, unit

from deployments.store.copies import publisher as module
from deployments.store.copies.ann import Ann
from deployments.store.copies.building import build
from deployments.store.copies.copy import Copy
from deployments.store.copies.folder import Folder, Manifest
from deployments.store.copies.publisher import Publisher
from deployments.store.copies.reader import Reader
from deployments.store.copies.segment import Segment
from deployments.store.memory.nearest import nearest
from deployments.store.observations import MeanLength
from deployments.store.sql.reading import Batch


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


ABOUT = Manifest(store="s", embedding_model="e", dimensions=D, models=MODELS)


def opened(folder: Folder, about: Manifest = ABOUT) -> Publisher:
    return Publisher(folder, about)


def read(folder: Folder) -> Copy:
    """The copy as another process opens it."""
    manifest = folder.manifest()
    assert manifest is not None
    return Reader(folder).copy(manifest, MODELS)


def test_a_copy_has_what_was_put_and_not_what_was_removed(folder: Folder) -> None:
    publisher = opened(folder)
    publisher.put(batch(range(1, 11), 1.0))
    publisher.put(batch([20, 21], None))
    publisher.publish()
    publisher.remove([3])
    publisher.put(batch([4], 0.0))
    publisher.put(batch([20], 0.5))
    publisher.publish()
    copy = read(folder)
    assert (len(copy), copy.unscored) == (10, 1)
    assert copy.ids("scored").tolist() == [1, 2, 4, 5, 6, 7, 8, 9, 10, 20]
    near = copy.neighbours(unit([4]), 3)
    assert near.ids[0, 0] == 4
    assert near.similarity[0, 0] > 0.99
    assert near.outcomes.quality[near.outcomes.row == 0].tolist() == [0.0]
    means = copy.means()
    assert means.count.tolist() == [10, 0]
    assert means.quality[0] == pytest.approx((8 + 0.5) / 10)


@pytest.mark.parametrize("turns", [1, 3])
def test_segments_of_all_sizes_agree_with_exhaustive_search(
    folder: Folder, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECENT", 200)
    monkeypatch.setattr(module, "_MEDIUM", 1000)
    publisher = opened(folder)
    publisher.rebuild(iter([batch(range(1, 4001), 1.0), batch(range(4001, 6001), 1.0)]))
    for turn in range(turns):
        first = 7000 + 1000 * turn
        publisher.put(batch(range(first, first + 700), 0.0))
        publisher.remove(range(100 * turn + 1, 100 * turn + 51))
        publisher.publish()
        publisher.put(batch(range(first + 700, first + 800), 0.0))
        publisher.publish()
        while publisher.is_due:
            publisher.join()
    copy = read(folder)
    ids = copy.ids("scored")
    assert len(ids) == len(copy) == 6000 + turns * 750
    queries = unit(range(50_000, 50_050))
    found = copy.neighbours(queries, 16).ids[:, :16]
    true = ids[nearest(queries, unit(ids.tolist()), 16)[0]]
    assert np.mean([len(set(a) & set(b)) / 16 for a, b in zip(found, true, strict=True)]) > 0.97


def test_a_publisher_goes_on_where_the_last_one_stopped(folder: Folder) -> None:
    before = opened(folder)
    before.rebuild(iter([batch(range(1, 5001), 1.0)]))
    before.put(batch([5001], 1.0))
    before.publish(revision=7)
    after = opened(folder)
    assert after.resume()
    assert after.manifest.revision == 7
    after.put(batch([5002], 1.0))
    after.publish()
    assert len(read(folder)) == 5002


def test_a_copy_says_how_long_answers_of_each_shape_are(folder: Folder) -> None:
    lengths = (MeanLength("small", "json", 30.5, 2), MeanLength("large", "tools", 7.0, 1))
    assert opened(folder).publish(lengths=lengths)
    manifest = folder.manifest()
    assert manifest is not None
    assert manifest.lengths == lengths
    assert manifest.lengths_of(MODELS) == list(lengths)
    # Another model of the same name inherits nothing.
    assert manifest.lengths_of([("small", "another"), MODELS[1]]) == [lengths[1]]
    again = opened(folder)
    assert again.resume()
    assert not again.publish(lengths=lengths)


def test_a_copy_of_an_earlier_version_says_nothing_of_lengths(folder: Folder) -> None:
    opened(folder).publish(revision=1)
    file = folder.path / "manifest.json"
    plain = json.loads(file.read_text())
    del plain["lengths"]
    file.write_text(json.dumps(plain))
    manifest = folder.manifest()
    assert manifest is not None
    assert manifest.lengths == ()


@pytest.mark.parametrize(
    "other",
    [
        {"store": "another"},
        {"embedding_model": "another"},
        {"dimensions": D + 1},
        {"models": (("small", "a"),)},
        {"models": (("large", "b"), ("small", "a"))},
        {"models": (("small", "another"), ("large", "b"))},
    ],
)
def test_a_copy_of_something_else_is_not_gone_on_from(
    folder: Folder, other: dict[str, Any]
) -> None:
    before = opened(folder)
    before.put(batch([1, 2], 1.0))
    before.publish(revision=7)
    after = opened(folder, replace(ABOUT, **other))
    assert not after.resume()
    assert (len(after.copy), after.manifest.revision) == (0, 0)


def test_a_copy_for_other_models_takes_their_outcomes_and_the_index_as_a_start(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = opened(folder)
    before.rebuild(iter([batch(range(1, 5001), 1.0)]))
    monkeypatch.setattr(Ann, "fitted", None)  # which takes long
    after = opened(folder, replace(ABOUT, models=(("large", "b"), ("small", "new"))))
    after.rebuild(iter([batch(range(1, 5002), 0.5)]))
    assert after.copy.means().quality[1] == 0.5
    assert after.copy.neighbours(unit([5001]), 1).ids[0, 0] == 5001


def test_a_new_copy_holds_nothing_from_before(folder: Folder) -> None:
    publisher = opened(folder)
    publisher.put(batch([1, 2], 0.0))
    publisher.publish()
    publisher.put(batch([3, 4], 0.0))

    def batches() -> Iterator[Batch]:
        yield batch([1, 3], 1.0)
        publisher.put(batch([5], 1.0))  # while it is read, and so newer

    publisher.rebuild(batches(), revision=7)
    assert publisher.manifest.revision == 7
    assert publisher.ids() == {1, 3}
    publisher.publish()
    assert publisher.ids() == {1, 3, 5}
    assert publisher.copy.means().quality[0] == 1.0


@pytest.mark.parametrize("failing", ["build", "manifest"])
def test_what_could_not_be_published_is_in_the_next_copy(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    publisher = opened(folder)
    publisher.put(batch([1], 1.0))
    publisher.publish()

    def full(*arguments: object, **more: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        if failing == "build":
            patch.setattr(module, "build", full)
        else:
            patch.setattr(folder, "publish", full)
        publisher.put(batch([2], 1.0))
        with pytest.raises(OSError, match="full"):
            publisher.publish()
        with pytest.raises(OSError, match="full"):
            publisher.rebuild(iter([batch([1], 1.0)]))
    assert publisher.publish()
    assert publisher.ids() == {1, 2}
    assert not publisher.publish()


def test_copies_are_published_while_segments_join_and_can_be_gone_on_from(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECENT", 10)
    monkeypatch.setattr(module, "_MEDIUM", 20)
    publisher = opened(folder)
    publisher.rebuild(iter([batch(range(1, 101), 1.0)]))
    publisher.put(batch(range(101, 131), 1.0))
    publisher.publish()
    assert publisher.is_due
    seen: list[set[int]] = []
    first = iter([True])

    def meanwhile(path: Path, *arguments: Any, **more: Any) -> Segment:
        if path.name.startswith("large") and next(first, False):
            publisher.put(batch(range(131, 151), 1.0))
            publisher.remove([1, 101])
            publisher.publish()
            restarted = opened(folder)
            assert restarted.resume()
            seen.append(restarted.ids())
            assert restarted.is_due
            restarted.join()
            seen.append(restarted.ids())
        return build(path, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(module, "build", meanwhile)
        publisher.join()
    expected = set(range(2, 151)) - {101}
    assert publisher.ids() == expected
    assert seen == [expected, expected]


def with_too_many_changes(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    """A publisher that has dropped changes, of 6 queries."""
    monkeypatch.setattr(module, "_MOST_WAITING", 5)
    publisher = opened(folder)
    for number in range(6):
        publisher.put(batch([number], 1.0))
    return publisher


def test_too_many_changes_that_can_not_be_published_are_dropped_and_all_is_read_anew(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = with_too_many_changes(folder, monkeypatch)
    assert publisher.must_rebuild
    publisher.rebuild(iter([batch(range(6), 1.0)]))
    assert not publisher.must_rebuild
    assert publisher.ids() == set(range(6))


def test_changes_that_were_dropped_are_still_due_if_reading_all_anew_fails(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = with_too_many_changes(folder, monkeypatch)

    def fail(*arguments: Any, **more: Any) -> Segment:
        raise OSError("no space left on device")

    with monkeypatch.context() as full:
        full.setattr(module, "build", fail)
        with pytest.raises(OSError, match="no space"):
            publisher.rebuild(iter([batch(range(6), 1.0)]))
    assert publisher.must_rebuild


def test_what_was_rebuilt_while_segments_joined_is_not_replaced_by_them(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECENT", 4)
    publisher = opened(folder)
    publisher.put(batch(range(10), 1.0))
    publisher.publish()
    builds = 0

    def rebuilt_meanwhile(*arguments: Any, **more: Any) -> Segment:
        nonlocal builds
        builds += 1
        if builds == 1:
            publisher.rebuild(iter([batch([99], 1.0)]))
        return build(*arguments, **more)

    monkeypatch.setattr(module, "build", rebuilt_meanwhile)
    publisher.join()
    assert builds == 2
    assert publisher.ids() == {99}
