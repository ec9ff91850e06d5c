"""Routers' decisions by the copies of small stores, without Ray: each follows a `keepers.Store`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from keepers import ENCODER, IDENTITIES, PRICES, Store, history, question, ready, started, vector

from deployments.store.copies.folder import Folder
from serve.routing.prices import Price
from serve.smart import decisions as module
from serve.smart import keeper
from serve.smart.client import SharedStore
from serve.smart.decisions import Decisions
from serve.smart.keeper import Keeper

COPIES = "the store", ENCODER

Router = Callable[..., Awaitable[Decisions]]


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("_PERIOD_S", "_BUSY_PERIOD_S"):
        monkeypatch.setattr(module, name, 0.01)
    monkeypatch.setattr(module, "_POLICY_TIMEOUT_S", 30)
    for name in ("_TICK_S", "_RETRY_S", "_FIT_PAUSE_S"):
        monkeypatch.setattr(keeper, name, 0.01)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
async def router(_quick: None) -> AsyncIterator[Router]:
    """Makes routers, which no longer follow their store when the test ends."""
    made = []

    async def make(
        store: Store,
        *,
        prices: dict[str, Price] = PRICES,
        identities: Mapping[str, str] = IDENTITIES,
        priors: Mapping[str, float] | None = None,
        encoder: str = ENCODER,
        half_life_days: float | None = None,
    ) -> Decisions:
        shared = cast("SharedStore", store)
        decisions = Decisions(
            shared, encoder, COPIES, identities, priors or {}, half_life_days=half_life_days
        )
        made.append(decisions)
        await decisions.configure(prices, 16, "here", 0.0)
        return decisions

    yield make
    for decisions in made:
        decisions.stop()


async def filled(folder: Path, *, here: bool = True) -> Keeper:
    """The keeper of a store with a history, on the routers' node or on another one."""
    copies = Folder.of(*COPIES, "here") if here else Folder(folder / "elsewhere")
    keeper, _ = started(folder, history(folder), copies=copies)
    await ready(keeper)
    return keeper


async def chosen(decisions: Decisions, text: str = "easy one", **more: Any) -> str:
    asked = question(text, **{"floor": True, **more})
    return (await decisions.decide(asked, vector(text))).models[0]
