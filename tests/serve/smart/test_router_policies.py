"""Promise: a router's policies begin with their first request, move with each, and are shared."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from keepers import DEAR, NAME, Store, question, until, vector
from router_fixtures import Router, chosen, filled

from serve.smart import decisions as module
from serve.smart.decisions import Decisions


async def test_the_first_request_is_weighed_against_past_queries_too(
    tmp_path: Path, router: Router
) -> None:
    decisions = await router(Store(await filled(tmp_path)))
    # Its own predicted quality is below the requirement, but the mean over past queries is not.
    assert await chosen(decisions, "hard one", requirement=0.45, floor=False) == "small"


async def test_a_request_does_not_wait_long_for_what_is_computed_of_past_queries(
    tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POLICY_TIMEOUT_S", 0.01)
    decisions = await router(Store(await filled(tmp_path)))
    computed = threading.Event()
    decisions._preparer.submit(computed.wait)
    assert await chosen(decisions, "hard one", requirement=0.45, floor=False) == "large"
    computed.set()


async def moved(decisions: Decisions, text: str, times: int = 20) -> None:
    """Some requests are decided by their policy."""
    for _ in range(times):
        assert (await decisions.decide(question(text), vector(text))).policy == NAME


async def test_policies_move_and_routers_share_them(tmp_path: Path, router: Router) -> None:
    keeper = await filled(tmp_path)
    first = await router(Store(keeper))
    await moved(first, "hard one")
    begun = first._decider.policies[NAME].decisions - 20

    def joint() -> Mapping[str, Any]:
        shared: Mapping[str, Any] = keeper.policies.to_dict().get(NAME, {"decisions": 0})
        return shared

    await until(lambda: joint()["decisions"] == begun + 20)
    assert joint()["multiplier"] == pytest.approx(first._decider.policies[NAME].multiplier)
    first.stop()
    # A router that joins goes on from there, and is heard in turn.
    store = Store(keeper)
    second = await router(store)
    await until(lambda: store.reports)
    await moved(second, "easy one", times=5)
    await until(lambda: joint()["decisions"] == begun + 25)


async def test_policies_for_other_prices_are_not_mixed(tmp_path: Path, router: Router) -> None:
    keeper = await filled(tmp_path)
    store = Store(keeper)
    decisions = await router(store, prices=DEAR)
    await moved(decisions, "hard one")
    await until(lambda: any(store.reports))
    assert keeper.policies.to_dict() == {}
