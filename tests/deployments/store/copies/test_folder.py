"""Promise: a copy is on a node completely or not at all, and its files stay in their folder."""

import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deployments.store.copies import folder as module
from deployments.store.copies.folder import Folder, Manifest

ABOUT = Manifest(store="s", embedding_model="e", dimensions=8, models=(("small", "a"),))
HOUR_S = 3600


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "here")


@pytest.fixture
def there(tmp_path: Path) -> Folder:
    """The folder of another node."""
    return Folder(tmp_path / "there")


def published(folder: Folder, *names: str, fit: str | None = None) -> Manifest:
    """A manifest of segments with two files each, made where they are missing."""
    for name in names:
        if not (folder.path / name).exists():
            (folder.path / name).mkdir()
            (folder.path / name / "ids.npy").write_bytes(os.urandom(2500))
            (folder.path / name / "vectors.npy").write_bytes(os.urandom(1000))
    if fit:
        (folder.path / fit).write_bytes(b"fit")
    return folder.publish(replace(ABOUT, segments=names, fit=fit))


def content(folder: Folder, manifest: Manifest) -> dict[str, bytes]:
    return {name: (folder.path / name).read_bytes() for name in manifest.files}


def age(path: Path, hours: float = 1.0) -> None:
    """Makes it look as old."""
    os.utime(path, (time.time() - hours * HOUR_S,) * 2)


def names(folder: Folder) -> set[str]:
    return {path.name for path in folder.path.iterdir()} - {"lock", "manifest.json"}


def test_a_manifest_says_what_was_published(folder: Folder) -> None:
    assert folder.manifest() is None
    first = published(folder, "large-1", fit="fit-1.npz")
    assert folder.manifest() == first
    assert first.files == {"large-1/ids.npy": 2500, "large-1/vectors.npy": 1000, "fit-1.npz": 3}
    second = published(folder, "large-1", "recent-2")
    assert folder.manifest() == second
    assert second.version != first.version


def changed(folder: Folder, **about: object) -> None:
    file = folder.path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **about}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder.path / "large-1" / "ids.npy").unlink(),
        lambda folder: (folder.path / "large-1" / "ids.npy").write_bytes(b"cut"),
        lambda folder: (folder.path / "fit-1.npz").unlink(),
        lambda folder: (folder.path / "manifest.json").write_text('{"store": "s", "emb'),
        lambda folder: (folder.path / "manifest.json").write_text("[]"),
        lambda folder: changed(folder, format=0),
        lambda folder: changed(folder, unknown=1),
    ],
)
def test_a_manifest_that_is_not_whole_does_not_count(
    folder: Folder, damage: Callable[[Folder], object]
) -> None:
    published(folder, "large-1", fit="fit-1.npz")
    damage(folder)
    assert folder.manifest() is None


def test_a_manifest_cut_off_while_it_is_written_leaves_the_one_before(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = published(folder, "large-1")

    def cut(file: Path, text: str) -> None:
        with file.open("w") as opened:
            opened.write(text[:10])
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", cut)
        with pytest.raises(OSError, match="full"):
            published(folder, "large-1", "recent-2")
    assert folder.manifest() == first


def test_files_are_fetched_in_parts_and_only_those_that_are_missing(
    folder: Folder, there: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1000)
    first = published(there, "large-1")
    asked: list[tuple[str, int]] = []

    def read(name: str, start: int) -> bytes:
        asked.append((name, start))
        return there.read(name, start)

    folder.fetch(first, read)
    assert sorted(asked) == [
        ("large-1/ids.npy", 0),
        ("large-1/ids.npy", 1000),
        ("large-1/ids.npy", 2000),
        ("large-1/vectors.npy", 0),
    ]
    asked.clear()
    second = published(there, "large-1", fit="fit-1.npz")
    folder.fetch(second, read)
    assert asked == [("fit-1.npz", 0)]
    assert folder.manifest() == second
    assert content(folder, second) == content(there, second)


def test_a_fetch_that_broke_off_counts_for_nothing_and_is_gone_on_with(
    folder: Folder, there: Folder
) -> None:
    manifest = published(there, "large-1", "recent-1")
    asked: list[str] = []

    def breaking(name: str, start: int) -> bytes:
        asked.append(name)
        if len(asked) == 3:
            raise ConnectionError("the other node is gone")
        return there.read(name, start)

    with pytest.raises(ConnectionError):
        folder.fetch(manifest, breaking)
    assert folder.manifest() is None
    folder.fetch(manifest, breaking)
    assert len(asked) == len(manifest.files) + 1  # only the one that broke off is asked for again
    assert folder.manifest() == manifest
    assert content(folder, manifest) == content(there, manifest)


def test_a_file_that_is_shorter_than_said_is_not_taken(folder: Folder, there: Folder) -> None:
    manifest = published(there, "large-1")
    (there.path / "large-1" / "ids.npy").write_bytes(b"short")
    with pytest.raises(OSError, match="shorter"):
        folder.fetch(manifest, there.read)
    assert folder.manifest() is None


@pytest.mark.parametrize("kind", [threading.Thread, multiprocessing.get_context("fork").Process])
def test_of_those_who_fetch_at_once_one_does_it_for_all(
    folder: Folder, there: Folder, tmp_path: Path, kind: Any
) -> None:
    manifest, log = published(there, "large-1", "recent-1"), tmp_path / "log"

    def fetch() -> None:
        def read(name: str, start: int) -> bytes:
            with log.open("a") as written:
                written.write(f"{name}\n")
            time.sleep(0.02)
            return there.read(name, start)

        mine = Folder(folder.path)
        mine.fetch(manifest, read)
        assert mine.manifest() == manifest
        (tmp_path / f"done {os.getpid()} {threading.get_ident()}").touch()

    fetching = [kind(target=fetch) for _ in range(4)]
    for one in fetching:
        one.start()
    for one in fetching:
        one.join(60)
    assert len(list(tmp_path.glob("done *"))) == len(fetching)
    assert sorted(log.read_text().split()) == sorted(manifest.files)
    assert content(folder, manifest) == content(there, manifest)


@pytest.mark.parametrize("name", ["../secret", "large-1/../../secret", "{}/secret", "link/secret"])
def test_names_that_lead_outside_the_folder_are_refused(
    folder: Folder, there: Folder, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder.path / "link").symlink_to(tmp_path)
    name = name.format(tmp_path)
    with pytest.raises(FileNotFoundError):
        folder.read(name, 0)
    manifest = replace(published(there, "large-1"), files={name: 7})
    with pytest.raises(FileNotFoundError):
        folder.fetch(manifest, lambda name, start: b"written")
    assert (tmp_path / "secret").read_text() == "secret"
    assert folder.manifest() is None


def test_what_counts_or_has_until_lately_is_kept_and_the_rest_deleted(folder: Folder) -> None:
    published(folder, "large-0")
    published(folder, "large-1", fit="fit-1.npz")
    for path in folder.path.iterdir():  # they were written long ago
        age(path)
    second = published(folder, "large-1", "recent-2", fit="fit-2.npz")
    third = published(folder, "large-3")
    (folder.path / ".medium-4").mkdir()  # a crash left it half written
    age(folder.path / ".medium-4", hours=48)
    (folder.path / ".medium-5").mkdir()  # is being written
    folder.collect(third)
    assert names(folder) == {"fit-1.npz", *second.names, *third.names, ".medium-5"}
    assert folder.manifest() == third
    for path in folder.path.iterdir():
        age(path, hours=48)
    folder.collect(third)
    assert names(folder) == {"large-3"}
    assert folder.manifest() == third


def test_a_node_that_fetches_deletes_what_it_no_longer_needs(folder: Folder, there: Folder) -> None:
    for number in range(5):
        folder.fetch(published(there, "large-1", f"recent-{number}"), there.read)
        for path in folder.path.iterdir():
            age(path)
    assert names(folder) == {"large-1", "recent-3", "recent-4"}  # 3 has counted until now


def test_only_the_owner_can_look_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    for path in (tmp_path / "open", tmp_path / "new" / "folder"):
        assert Folder(path).path.stat().st_mode & 0o077 == 0


def test_the_same_names_stand_for_the_same_folder_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    one = Folder.of("url", "model", "server").path
    assert one == Folder.of("url", "model", "server").path
    assert one != Folder.of("url", "model", "another").path
    assert one.is_relative_to(tmp_path / "cache")


def test_where_there_is_no_cache_a_temporary_folder_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    one = Folder.of("url", "model", "server").path
    assert one.parent.parent == tmp_path / "temporary"
    assert one.stat().st_mode & 0o077 == one.parent.stat().st_mode & 0o077 == 0
