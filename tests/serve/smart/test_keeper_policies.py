"""Promise: policies outlive the process, and belong to one server and to one set of prices."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from keepers import (
    DEAR,
    NAME,
    PRICES,
    choice,
    decide,
    history,
    kept,
    ready,
    started,
    until,
    url_of,
)

from deployments.store.copies.folder import Folder
from deployments.store.sql.database import Database
from serve.routing.policies import Policies
from serve.routing.prices import fingerprint
from serve.smart import keeper as module
from serve.smart import saved_policies


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TICK_S", "_RETRY_S", "_FIT_PAUSE_S"):
        monkeypatch.setattr(module, name, 0.01)


async def decided(folder: Path, server: str, text: str) -> dict[str, Any]:
    """The policies of a server that has decided some requests, and saved them."""
    keeper, _ = started(folder, server=server)
    await ready(keeper)
    decide(keeper, text)
    await until(lambda: keeper._saved == kept(keeper))
    await keeper.close()
    return kept(keeper)


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
    monkeypatch.setattr(saved_policies, "_MOST_SERVERS", 2)
    for server in ("first", "second", "third"):
        await decided(tmp_path, server, server)
    keeper, _ = started(tmp_path, server="fourth")
    await ready(keeper)
    assert keeper.store is not None
    saved = keeper.store.database.state.with_prefix("policies:")
    assert {name.split(":")[-1] for name in saved} >= {"second", "third"}
    assert "first" not in {name.split(":")[-1] for name in saved}


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
