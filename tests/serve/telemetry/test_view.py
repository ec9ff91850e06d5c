"""Promise: however many ask what all routers do, the actor that knows is asked once a second."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from serve.actors import ActorClient
from serve.telemetry import view
from serve.telemetry.live import Live
from serve.telemetry.view import View

TOTALS = {"llm_cost_usd": {("llm_cost_usd_total", (("model", "a"),)): 2.0}}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the actor was asked for what."""
    calls, actor = Counter[str](), Live()

    async def call(client: ActorClient, method: str, *args: Any) -> Any:
        calls[method] += 1
        await asyncio.sleep(0)
        return actor.read(*args) if method == "live" else TOTALS

    monkeypatch.setattr(ActorClient, "call", call)
    return calls


async def test_many_pages_at_once_are_one_question(calls: Counter[str]) -> None:
    seen = View(dict)
    for _ in range(2):
        many = [seen.totals("llm_cost_usd") for _ in range(20)]
        assert await asyncio.gather(*many) == [TOTALS] * 20
        assert all(each.whole for each in await asyncio.gather(*[seen.seen() for _ in many]))
    assert calls == {"live": 1, "totals": 1}


async def test_what_is_older_than_a_second_is_asked_for_anew(
    calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_FRESH_S", -1.0)
    seen = View(dict)
    for _ in range(2):
        await seen.seen()
        await seen.totals("llm_cost_usd")
    assert calls == {"live": 2, "totals": 2}
