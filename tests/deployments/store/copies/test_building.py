"""Promise: a segment appears when it is complete, and an older one's index is a good start."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from batches import MODELS, batch, batch_of, part, unit

from deployments.store.copies.ann import Ann
from deployments.store.copies.building import Part, build
from deployments.store.copies.segment import EXHAUSTIVE, Segment
from deployments.store.evidence import Floats32
from deployments.store.memory.nearest import nearest

ROWS = EXHAUSTIVE + 1500


def built(path: Path, parts: Sequence[Segment | Part], reuse: Segment | None = None) -> Segment:
    return build(path, parts, len(MODELS), reuse=reuse, deletions=False)


def recall(segment: Segment) -> float:
    """The share of the true nearest that a search for them finds; none is of another segment."""
    ids, queries = segment.ids("scored"), unit(range(50_000, 50_050))
    true = ids[nearest(queries, unit(ids.tolist()), 16)[0]]
    found = [segment.search("scored", query, 16).ids for query in queries]
    assert np.isin(found, ids).all()
    return float(np.mean([len(set(a) & set(b)) / 16 for a, b in zip(found, true, strict=True)]))


@pytest.mark.parametrize(
    ("new", "gone"),
    [
        ([part(batch(range(ROWS, ROWS + 500), 1.0))], []),
        ([part(batch(range(ROWS, ROWS + 500), 1.0))], range(1000)),
        ([part(batch(range(ROWS, ROWS + 5000), 1.0))], range(ROWS - 500)),
    ],
)
def test_an_index_with_additions_and_removals_finds_nearly_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: list[Part], gone: Sequence[int]
) -> None:
    before = built(tmp_path / "before", [part(batch(range(ROWS), 1.0))])
    assert recall(before) > 0.97
    monkeypatch.setattr(Ann, "fitted", None)  # which takes long where there are many
    parts: list[Segment | Part] = [before, *new, part(batch_of(gone, []))]
    after = built(tmp_path / "after", parts, reuse=before)
    assert len(after) == ROWS + len(new[0].table) - len(gone)
    assert recall(after) > 0.97


def test_an_index_that_has_grown_too_far_is_fitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = built(tmp_path / "before", [part(batch(range(ROWS), 1.0))])
    fitted, calls = Ann.fitted, list[int]()

    def fit(sample: Floats32, rows: int) -> Ann:
        calls.append(rows)
        return fitted(sample, rows)

    monkeypatch.setattr(Ann, "fitted", fit)
    for most, fits in ((ROWS + 500, []), (ROWS + 499, [ROWS + 500])):
        monkeypatch.setattr(Ann, "fits", most)
        more = part(batch(range(ROWS, ROWS + 500), 1.0))
        assert recall(built(tmp_path / f"after {most}", [before, more], reuse=before)) > 0.97
        assert calls == fits


def test_a_segment_that_could_not_be_completed_does_not_appear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Ann, file: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Ann, "write", full)
    with pytest.raises(OSError, match="full"):
        built(tmp_path / "large-1", [part(batch(range(ROWS), 1.0))])
    assert not (tmp_path / "large-1").exists()


def test_deletions_are_kept_only_for_older_segments(tmp_path: Path) -> None:
    parts = [part(batch(range(10), 1.0)), part(batch_of([3, 99], []))]
    above = build(tmp_path / "above", parts, len(MODELS), reuse=None, deletions=True)
    assert above.table.ids.tolist() == [*range(10), 99]
    assert built(tmp_path / "alone", parts).table.ids.tolist() == [0, 1, 2, *range(4, 10)]


def test_a_segment_of_nothing_finds_nothing(tmp_path: Path) -> None:
    segment = built(tmp_path / "large-1", [part(batch([], 1.0))])
    assert len(segment) == 0
    assert not len(segment.search("scored", unit([1])[0], 16).ids)


def test_where_there_is_no_room_for_a_segment_nothing_is_left_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        built(tmp_path / "new", [part(batch(range(10), 1.0))])
    assert list(tmp_path.iterdir()) == []
