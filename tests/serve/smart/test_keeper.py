"""Promise: the store starts by itself, publishes what it knows, and retries whatever fails."""

import asyncio
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keepers import (
    DEAR,
    IDENTITIES,
    PRICES,
    history,
    opener,
    question,
    ready,
    started,
    until,
    url_of,
    vector,
)

from deployments.store.copies import publisher
from deployments.store.copies.copy import Copy
from deployments.store.copies.folder import Folder, Manifest
from deployments.store.copies.reader import Reader
from deployments.store.evidence import Floats32
from deployments.store.observations import AnswerRecord, Observation
from deployments.store.sql.database import Database
from deployments.store.store import EmbeddingStore
from serve.routing.decider import Decider
from serve.routing.forecast.fits import read_fit
from serve.routing.policies import Policies, policy_name
from serve.routing.prices import Price, fingerprint
from serve.smart import keeper as module
from serve.smart.keeper import Keeper

NAME = policy_name(0.7, tuple(PRICES))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TICK_S", "_RETRY_S", "_FIT_PAUSE_S"):
        monkeypatch.setattr(module, name, 0.01)


def published(keeper: Keeper) -> Copy:
    """The latest copy, as a router opens it."""
    manifest = keeper.manifest
    assert manifest is not None
    return Reader(keeper.folder).copy(manifest, manifest.models)


def choice(keeper: Keeper, text: str, prices: dict[str, Price] = PRICES) -> str:
    """The model that a router chooses by the latest copy."""
    decider = Decider(published(keeper), prices)
    return decider.decide(question(text, floor=True), vector(text)).models[0]


def decide(keeper: Keeper, text: str, times: int = 20, router: str = "router") -> None:
    """A router decides some requests, and reports it."""
    decider = Decider(published(keeper), PRICES)
    asked = question(text)
    decider.begin(asked, decider.new_policy(NAME))
    keeper.policies.exchange(router, decider.policies.report())
    for _ in range(times):
        decider.decide(asked, vector(text))
    keeper.policies.exchange(router, decider.policies.report())


def kept(keeper: Keeper) -> dict[str, Any]:
    return keeper.policies.to_dict()


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


async def test_policies_outlive_the_process(tmp_path: Path) -> None:
    keeper, _ = started(tmp_path, history(tmp_path))
    await ready(keeper)
    decide(keeper, "hard one", times=40)
    await until(lambda: keeper._saved == kept(keeper))
    again, _ = started(tmp_path, history(tmp_path), copies=Folder(tmp_path / "elsewhere"))
    # A router that knows less reports while the store loads: must not count.
    policies = Policies()
    policies.begin(NAME, None, replace(keeper.policies.exchange("", {})[NAME].policy, decisions=1))
    again.policies.exchange("router", policies.report())
    await ready(again)
    assert list(kept(again)) == [NAME]
    assert kept(again) == kept(keeper)


async def test_the_policies_of_the_last_second_are_saved_at_the_end(tmp_path: Path) -> None:
    keeper, _ = started(tmp_path)
    await ready(keeper)
    decide(keeper, "hard one")
    await keeper.close()
    again, _ = started(tmp_path)
    await ready(again)
    assert kept(again) == kept(keeper) != {}


async def decided(folder: Path, server: str, text: str) -> dict[str, Any]:
    """The policies of a server that has decided some requests, and saved them."""
    keeper, _ = started(folder, server=server)
    await ready(keeper)
    decide(keeper, text)
    await until(lambda: keeper._saved == kept(keeper))
    await keeper.close()
    return kept(keeper)


async def test_servers_with_one_store_do_not_overwrite_each_others_policies(
    tmp_path: Path,
) -> None:
    first = await decided(tmp_path, "first", "easy one")
    # A new server begins where the other is.
    second, _ = started(tmp_path, server="second")
    await ready(second)
    assert kept(second) == first
    await second.close()
    both = await decided(tmp_path, "second", "hard one")
    assert both != first
    for server, policies in (("first", first), ("second", both)):
        again, _ = started(tmp_path, server=server)
        await ready(again)
        assert kept(again) == policies


async def test_policies_from_before_servers_had_names_are_adopted(tmp_path: Path) -> None:
    saved = await decided(tmp_path, "first", "easy one")
    database = Database(url_of(tmp_path))
    ((name, state),) = database.state.with_prefix("policies:").items()
    database.state.delete([name])
    database.state.set(name.removesuffix(":first"), state["policies"])
    database.close()
    again, _ = started(tmp_path, server="second")
    await ready(again)
    assert kept(again) == saved


async def test_the_number_of_servers_with_stored_policies_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_SERVERS", 2)
    for server in ("first", "second", "third"):
        await decided(tmp_path, server, server)
    keeper, _ = started(tmp_path, server="fourth")
    await ready(keeper)
    assert keeper.store is not None
    saved = keeper.store.database.state.with_prefix("policies:")
    assert {name.split(":")[-1] for name in saved} >= {"second", "third"}
    assert "first" not in {name.split(":")[-1] for name in saved}


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


async def test_new_prices_start_new_policies_and_keep_what_is_known(tmp_path: Path) -> None:
    keeper, embedder = started(tmp_path, history(tmp_path))
    await ready(keeper)
    decide(keeper, "easy one")
    await until(lambda: keeper._saved == kept(keeper))
    before = keeper.priced
    keeper.configure(DEAR, 16, "here", embedder)
    assert keeper.priced != before
    assert kept(keeper) == {}  # multipliers are in USD
    assert choice(keeper, "easy one", DEAR) == "large"
    assert keeper.manifest is not None
    assert keeper.manifest.tokens_per_character == pytest.approx(3 / 7, rel=0.1)  # of the history


async def test_new_settings_at_the_same_prices_keep_the_policies(tmp_path: Path) -> None:
    keeper, embedder = started(tmp_path)
    await ready(keeper)
    decide(keeper, "easy one")
    before = kept(keeper)
    # What the provider's cache costs is nothing that policies go by.
    cached = {**PRICES, "small": replace(PRICES["small"], cached=1e-8)}
    keeper.configure(cached, 5, "here", embedder)
    assert kept(keeper) == before != {}


async def test_prices_that_change_while_the_store_loads_are_not_lost(tmp_path: Path) -> None:
    await decided(tmp_path, "here", "easy one")
    keeper, embedder = started(tmp_path)
    keeper.configure(DEAR, 16, "here", embedder)
    await ready(keeper)
    assert keeper.priced == fingerprint(DEAR)
    assert kept(keeper) == {}


async def test_enough_scores_cause_a_refit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEWEST_NEW", 5)
    keeper, _ = started(tmp_path, history(tmp_path, rows=20))
    await ready(keeper)
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
        keeper.scored()
    await until(lambda: keeper.manifest and keeper.manifest.fit != before.fit)
    assert keeper.manifest is not None
    assert [fitted_on(keeper, manifest) for manifest in (before, keeper.manifest)] == [20, 25]


async def test_a_history_that_is_new_after_a_restart_causes_a_refit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FEWEST_NEW", 5)
    keeper, _ = started(tmp_path, history(tmp_path, rows=20))
    await ready(keeper)
    await keeper.close()
    again, _ = started(tmp_path, history(tmp_path, rows=30))
    await ready(again)
    await until(lambda: again.manifest and fitted_on(again, again.manifest) == 30)
