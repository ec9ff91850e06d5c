"""Promise: the store starts by itself, publishes what it knows, and retries whatever fails."""

import asyncio
import logging
import shutil
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from keepers import (
    IDENTITIES,
    PRICES,
    choice,
    decide,
    history,
    kept,
    opener,
    published,
    ready,
    started,
    until,
    vector,
)

from deployments.store.copies import publisher
from deployments.store.copies.folder import Folder, Manifest
from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation, Scored
from deployments.store.store import EmbeddingStore
from serve.routing.forecast.fits import read_fit
from serve.routing.forecast.fitting import Refit
from serve.routing.prices import Price
from serve.smart import keeper as module
from serve.smart import refitting
from serve.smart.keeper import Keeper


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TICK_S", "_RETRY_S", "_FIT_PAUSE_S"):
        monkeypatch.setattr(module, name, 0.01)


def fitted_on(keeper: Keeper, manifest: Manifest) -> int:
    """How many queries a copy's predictor was checked on."""
    assert manifest.fit is not None
    return len(read_fit(keeper.folder.path / manifest.fit, np.full(2, 0.5)).characters)


async def test_a_history_is_imported_once_and_decides(tmp_path: Path) -> None:
    keeper, embedder = started(tmp_path, history(tmp_path))
    assert keeper.manifest is None
    await ready(keeper)
    assert embedder.texts == 120
    assert (choice(keeper, "easy one"), choice(keeper, "hard one")) == ("small", "large")
    await keeper.close()
    again, embedder = started(tmp_path, history(tmp_path))
    await ready(again)
    assert embedder.texts == 0
    assert choice(again, "easy one") == "small"


async def test_after_a_restart_the_store_goes_on_from_its_copy(tmp_path: Path) -> None:
    keeper, _ = started(tmp_path, history(tmp_path))
    await ready(keeper)
    before = keeper.manifest
    await keeper.close()
    again, _ = started(tmp_path)
    await ready(again)
    assert again.store is not None
    assert again.store.loaded == 0  # it has read no row again
    assert before is not None
    assert again.manifest is not None
    assert (again.manifest.fit, len(published(again))) == (before.fit, 120)


async def test_what_is_stored_is_in_the_next_copy(tmp_path: Path) -> None:
    keeper, _ = started(tmp_path)
    await ready(keeper)
    assert keeper.store is not None
    assert len(published(keeper)) == 0
    seen = Observation("new one", vector("new one"), "small", "test", 1.0, identity="openai/small")
    await asyncio.wrap_future(keeper.store.observe(seen))
    await until(lambda: len(published(keeper)) == 1)


async def test_a_copy_whose_files_were_deleted_is_made_anew(tmp_path: Path) -> None:
    keeper, _ = started(tmp_path, history(tmp_path))
    await ready(keeper)
    assert keeper.store is not None
    shutil.rmtree(keeper.folder.path)
    seen = Observation("new one", vector("new one"), "small", "test", 1.0, identity="openai/small")
    await asyncio.wrap_future(keeper.store.observe(seen))
    store = keeper.store
    await until(lambda: len(store.publisher.copy) == 121)
    await until(lambda: keeper.manifest and keeper.manifest.fit)
    assert len(published(keeper)) == 121


async def test_segments_are_joined_while_a_history_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "_RECENT", 4)
    monkeypatch.setattr(publisher, "_MEDIUM", 8)
    keeper, embedder = started(tmp_path, history(tmp_path))
    slow = embedder.__call__

    async def embed(texts: Sequence[str]) -> Floats32:
        await asyncio.sleep(0.05)
        return await slow(texts)

    keeper.configure(PRICES, 16, "here", embed)
    await until(lambda: keeper.message.startswith("importing"))
    await until(lambda: keeper.manifest and "large" in " ".join(keeper.manifest.segments))
    await until(lambda: keeper.manifest and len(published(keeper)) > 8)
    await ready(keeper)
    assert len(published(keeper)) == 120


async def test_other_models_get_a_copy_of_their_own(tmp_path: Path) -> None:
    keeper, _ = started(tmp_path, history(tmp_path))
    await ready(keeper)
    before = keeper.manifest
    await keeper.close()
    changed = {**IDENTITIES, "small": "openai/another"}
    again, _ = started(tmp_path, identities=changed)
    await ready(again)
    assert before is not None
    assert again.manifest is not None
    assert dict(again.manifest.models) == changed
    assert again.manifest.fit != before.fit
    # What another model did under this name says nothing about this one.
    assert published(again).means().count.tolist() == [0, 120]


async def test_a_bad_or_missing_history_does_not_affect_the_rest(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"query": "", "outputs": []}')
    keeper, _ = started(tmp_path, bad, tmp_path / "missing.json", history(tmp_path))
    await ready(keeper)
    assert choice(keeper, "easy one") == "small"


async def test_the_store_is_ready_once_queries_can_be_embedded(tmp_path: Path) -> None:
    keeper, embedder = started(tmp_path, history(tmp_path))
    await ready(keeper)
    await keeper.close()
    copies = Folder(tmp_path / "copies" / "here")
    keeper = Keeper(list(PRICES), {}, copies, opener(tmp_path, copies), [])
    embedder.up.clear()
    keeper.configure(PRICES, 16, "here", embedder)
    await until(lambda: keeper.message == "waiting for the embedding model")
    assert keeper.status == "loading"
    assert choice(keeper, "easy one") == "small"  # what it knows is used in the meantime
    keeper.configure({**PRICES, "large": Price(1e-6, 4e-6)}, 16, "here", embedder)
    assert len(published(keeper)) == 120  # new settings keep what is loaded
    embedder.up.set()
    await ready(keeper)
    assert keeper.message == ""


async def test_a_failing_embedder_does_not_keep_the_store_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    keeper, embedder = started(tmp_path)
    embedder.error = OSError("no room for it")
    await ready(keeper)
    assert "the embedding model does not respond" in caplog.text
    assert "no room for it" in caplog.text


async def test_opening_the_store_is_retried(tmp_path: Path) -> None:
    tries = 0

    def open_store() -> EmbeddingStore:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionError("the database is unavailable")
        return opener(tmp_path, Folder(tmp_path / "copies" / "here"))()

    keeper, _ = started(tmp_path, history(tmp_path), open_store=open_store)
    await until(lambda: keeper.status == "failed")
    assert keeper.manifest is None
    await ready(keeper)
    assert tries == 3


async def test_what_a_keys_scores_may_weigh_is_known_while_the_store_loads(tmp_path: Path) -> None:
    keys = [*(f"key {number}" for number in range(20)), "loud", "loud"]
    with closing(opener(tmp_path, Folder(tmp_path))()) as before:
        answers = [AnswerRecord(str(at), "small", key=key) for at, key in enumerate(keys)]
        before.database.write(answers)
        before.database.score([(answer.id, 1.0) for answer in answers])
    loaded = threading.Event()

    def slow() -> EmbeddingStore:
        store = opener(tmp_path, Folder(tmp_path))()
        store.load = lambda progress=None: loaded.wait(30)  # type: ignore[assignment]
        return store

    keeper, _ = started(tmp_path, open_store=slow)
    await until(lambda: keeper.status == "loading")
    assert not keeper.bound.admits("loud")
    assert keeper.bound.admits("key 1")
    loaded.set()


async def test_a_history_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = history(tmp_path, rows=20)
    keeper, embedder = started(tmp_path, file)
    await ready(keeper)
    assert keeper.store is not None
    read = Path.read_bytes
    files: list[Path] = []

    def counted(path: Path) -> bytes:
        files.append(path)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    await keeper._import_all(keeper.store)
    assert files == []
    history(tmp_path, rows=30)
    await keeper._import_all(keeper.store)
    assert set(files) == {file}
    assert embedder.texts == 30
    await until(lambda: len(published(keeper)) == 30)


async def test_maintenance_that_fails_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper, _ = started(tmp_path, history(tmp_path))
    await ready(keeper)
    assert keeper.store is not None
    save = keeper.store.database.state.set
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail(name: str, value: object) -> None:
        loop.call_soon_threadsafe(failed.set)
        raise ConnectionError("the database is unavailable")

    monkeypatch.setattr(keeper.store.database.state, "set", fail)
    decide(keeper, "easy one")
    await asyncio.wait_for(failed.wait(), 30)
    monkeypatch.setattr(keeper.store.database.state, "set", save)
    await until(lambda: keeper._saved == kept(keeper) != {})
    assert choice(keeper, "easy one") == "small"
    assert keeper.status == "ready"
    await until(lambda: keeper.message == "")


async def score(keeper: Keeper, texts: Sequence[str]) -> None:
    """The small model's answers to these get their first scores, and are published."""
    assert keeper.store is not None
    before = len(published(keeper))
    for text in texts:
        identity = IDENTITIES["small"]
        seen = Observation(text, vector(text), "small", "answers", identity=identity)
        answer = AnswerRecord(text, "small", identity=identity)
        await asyncio.wrap_future(keeper.store.observe((seen, answer)))
        scored = await asyncio.wrap_future(keeper.store.score(text, 1.0))
        assert scored is not None
        keeper.score(scored, 1.0)
    await until(lambda: len(published(keeper)) == before + len(texts))


async def fitted_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """The keeper of a small store, which fits anew after 5 new scores."""
    monkeypatch.setattr(refitting, "_FEWEST", 5)
    keeper, _ = started(tmp_path, history(tmp_path, rows=20))
    await ready(keeper)
    return keeper


async def test_scores_of_before_a_restart_count_towards_a_refit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = await fitted_often(tmp_path, monkeypatch)
    await score(keeper, ["new 1", "new 2", "new 3"])
    before = keeper.manifest
    await keeper.close()
    again, _ = started(tmp_path, history(tmp_path, rows=20))
    await ready(again)
    await score(again, ["new 4", "new 5"])
    assert before is not None
    await until(lambda: again.manifest and again.manifest.fit != before.fit)


async def test_a_fit_that_fails_is_not_repeated_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = await fitted_often(tmp_path, monkeypatch)
    failures: list[Path] = []

    def fail(file: Path, fitted: Refit) -> None:
        # The last fit that worked is longer ago than the pause; the one that fails is not.
        monkeypatch.setattr(module, "_FIT_PAUSE_S", 1e6)
        keeper._fitted_at = -2e6
        failures.append(file)
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "write_fit", fail)
    await score(keeper, [f"new {number}" for number in range(5)])
    await until(lambda: failures)
    for number in range(5, 15):  # each is in a copy of its own, a tick later
        await score(keeper, [f"new {number}"])
    assert len(failures) == 1


async def test_enough_scores_cause_a_refit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = await fitted_often(tmp_path, monkeypatch)
    assert keeper.store is not None
    before = keeper.manifest
    assert before is not None
    for number in range(5):
        text, identity = f"new {number}", IDENTITIES["small"]
        seen = Observation(text, vector(text), "small", "answers", identity=identity)
        answer = AnswerRecord(str(number), "small", identity=identity)
        await asyncio.wrap_future(keeper.store.observe((seen, answer)))
        await asyncio.wrap_future(keeper.store.score(str(number), 1.0))
    await until(lambda: len(published(keeper)) == 25)
    for _ in range(5):
        keeper.score(Scored("small", None, None, None), 1.0)
    await until(lambda: keeper.manifest and keeper.manifest.fit != before.fit)
    assert keeper.manifest is not None
    assert [fitted_on(keeper, manifest) for manifest in (before, keeper.manifest)] == [20, 25]


async def test_a_history_that_is_new_after_a_restart_causes_a_refit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = await fitted_often(tmp_path, monkeypatch)
    await keeper.close()
    again, _ = started(tmp_path, history(tmp_path, rows=30))
    await ready(again)
    await until(lambda: again.manifest and fitted_on(again, again.manifest) == 30)
