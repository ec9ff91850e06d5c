"""Promise: metrics are for keys that may read them or, without keys, for callers right here."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from recorded import Recorded
from scripted_models import END, Models, api_client, says

from serve.access.keys import hash_of, new_key
from serve.telemetry.scrape import Scrapes

OPERATORS, TEAMS = new_key(), new_key()
KEYS = {
    "keys": [
        {"name": "operator", "sha256": hash_of(OPERATORS).hex(), "metrics": True},
        {"name": "team", "sha256": hash_of(TEAMS).hex()},
    ],
}


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    async def text(self: Scrapes) -> bytes:
        return b"# all is well\n"

    monkeypatch.setattr(Scrapes, "text", text)


async def client(**config: Any) -> AsyncIterator[httpx.AsyncClient]:
    models = Models(a=[says("one", END, pause=0.1)])
    config = {"allow_anonymous": False, **config}
    async with api_client(await models.core(), models, **config) as http:
        yield http


async def scrape(headers: dict[str, str] | None = None, **config: Any) -> httpx.Response:
    async for http in client(**config):
        return await http.get("/metrics", headers=headers or {})
    raise AssertionError


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def test_a_key_that_may_reads_them_from_anywhere() -> None:
    reply = await scrape(bearer(OPERATORS), peer="192.0.2.7", **KEYS)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.text == "# all is well\n"


async def test_another_key_may_not_and_is_told_what_to_do() -> None:
    reply = await scrape(bearer(TEAMS), **KEYS)
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "not_permitted"
    assert "metrics: true" in reply.json()["error"]["message"]


@pytest.mark.parametrize("headers", [{}, bearer(new_key())])
async def test_where_there_are_keys_it_takes_one_also_on_this_machine(
    headers: dict[str, str],
) -> None:
    reply = await scrape(headers, **KEYS)
    assert reply.status_code == 401
    assert reply.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.53", "::1"])
async def test_without_keys_callers_on_this_machine_read_them(peer: str) -> None:
    assert (await scrape(peer=peer)).status_code == 200


async def test_where_anyone_may_call_nobody_counts_as_on_this_machine() -> None:
    reply = await scrape(allow_anonymous=True)
    assert reply.status_code == 403, "it may come through a proxy here that doesn't say so"
    assert "metrics: true" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("192.0.2.7", {}),
        ("192.0.2.7", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}),
        ("", {}),
    ],
)
async def test_without_keys_others_dont_whatever_they_say_of_themselves(
    peer: str, headers: dict[str, str]
) -> None:
    reply = await scrape(headers, peer=peer)
    assert reply.status_code == 403
    assert "metrics: true" in reply.json()["error"]["message"]


async def test_behind_haproxy_nobody_counts_as_on_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serve.http.routes.metrics.HAPROXY_MODE", True)
    assert (await scrape()).status_code == 403


async def test_a_server_at_its_limits_can_be_looked_at_and_shows_what_is_in_progress() -> None:
    recorded = Recorded()
    body = {"model": "auto", "messages": [{"role": "user", "content": "Count."}]}
    async for http in client(max_concurrent_requests=1):
        answer = asyncio.ensure_future(http.post("/v1/chat/completions", json=body))
        await asyncio.sleep(0.05)
        assert (await http.get("/v1/models")).status_code == 429
        assert (await http.get("/metrics")).status_code == 200
        assert recorded("llm_requests_in_flight", deployment="Router", state="ongoing") == 1
        assert (await answer).status_code == 200
    assert recorded("llm_requests_in_flight", deployment="Router", state="ongoing") == 0


async def test_requests_of_a_key_are_counted_by_its_name() -> None:
    recorded = Recorded()
    async for http in client(**KEYS):
        for _ in range(2):
            await http.get("/v1/models", headers=bearer(TEAMS))
        await http.get("/metrics", headers=bearer(OPERATORS))
    assert recorded("llm_key_requests_total", key="team") == 2
    assert recorded("llm_key_requests_total", key="operator") == 0, "a scrape is none"
