"""Promise: models that share a replica don't feel one another, and change without a new process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_providers import Fake, chunk, serving, streaming, usage
from hosted_models import configure, hosted_models
from starlette.requests import Request
from starlette.responses import Response

from deployments import registry
from deployments.contract import ChatRequest, merge
from deployments.errors import LLMError, Overloaded
from deployments.registry import KINDS, kind_of, row_of
from deployments.replicas import hosted
from deployments.replicas.hosted import HostedModels
from deployments.replicas.reachability import Reach
from ops.ports import free_port


def _answer(request: Request, body: Any) -> Response:
    """The model's name; a model called "slow" pauses within its answer."""
    pause = 1.0 if body["model"] == "slow" else 0.0
    said = (chunk(delta={"content": half}) for half in (body["model"], "!"))
    answer = streaming(next(said), pause, next(said), chunk(finish_reason="stop"), usage())
    return answer(request, body)


@pytest.fixture
def provider() -> Iterator[Fake]:
    with serving(_answer) as fake:
        yield fake


@pytest.fixture
async def replica() -> AsyncIterator[HostedModels]:
    async with hosted_models() as replica:
        yield replica


def endpoint(name: str, url: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "backend": "vllm", "hostname": url, **fields}


async def answer(replica: HostedModels, model: str) -> str:
    request = ChatRequest(model=model, messages=[{"role": "user", "content": "Hi"}])
    async with aclosing(replica.chat(request)) as chunks:
        return merge([chunk async for chunk in chunks]).text


async def asked(provider: Fake, number: int) -> None:
    async with asyncio.timeout(10):
        while len(provider.requests) < number:  # noqa: ASYNC110 - the provider is a thread
            await asyncio.sleep(0.01)


async def test_each_request_is_answered_by_the_model_that_it_names(
    replica: HostedModels, provider: Fake
) -> None:
    await configure(replica, endpoint("a", provider.url), endpoint("b", provider.url, model="c"))
    assert [await answer(replica, name) for name in "ab"] == ["a!", "c!"]


async def test_a_slow_model_takes_no_places_from_the_others(
    replica: HostedModels, provider: Fake
) -> None:
    few = {"max_ongoing_requests": 2, "max_queued_requests": 1}
    await configure(replica, endpoint("slow", provider.url, **few), endpoint("a", provider.url))
    requests = [asyncio.create_task(answer(replica, "slow")) for _ in range(3)]
    await asked(provider, 2)
    with pytest.raises(Overloaded, match="model 'slow' is at its limit") as raised:
        await answer(replica, "slow")
    assert not raised.value.asked
    assert await answer(replica, "a") == "a!"
    assert await asyncio.gather(*requests) == ["slow!"] * 3


async def test_a_model_that_cannot_be_served_stops_no_other(
    replica: HostedModels, provider: Fake
) -> None:
    unset = endpoint("unset", provider.url, api_key="${SURELY_NOT_SET}")
    await configure(replica, unset, endpoint("a", provider.url))
    assert await answer(replica, "a") == "a!"
    with pytest.raises(LLMError, match="can't be served as it is configured") as raised:
        await answer(replica, "unset")
    assert (raised.value.code, raised.value.asked) == ("provider_rejected", False)
    assert "SURELY_NOT_SET" not in raised.value.message, "only the operator learns it"
    reach = await replica.reach(["unset", "a"])
    assert reach["a"] == Reach()
    assert "SURELY_NOT_SET, which is not set" in reach["unset"].fault


async def test_a_library_that_fails_when_it_is_imported_stops_no_other_model(
    replica: HostedModels, provider: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no such chip')")
    monkeypatch.syspath_prepend(tmp_path)
    broken = {"name": "bad", "backend": "openai"}
    row = replace(row_of(broken), backend="broken:Backend")
    monkeypatch.setattr(registry, "KINDS", {**KINDS, kind_of(broken): row})
    await configure(replica, broken, endpoint("a", provider.url))
    assert await answer(replica, "a") == "a!"
    assert (await replica.reach(["bad"]))["bad"].fault == "no such chip"


async def test_providers_are_tried_together(replica: HostedModels, provider: Fake) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    await configure(replica, endpoint("a", provider.url), endpoint("down", nowhere))
    reach = await replica.reach(["a", "down", "unknown"])
    assert reach["a"] == Reach()
    assert reach["down"].unreachable == f"{nowhere}: Connection refused"
    assert "unknown" not in reach


async def test_the_windows_of_models_that_fail_are_left_out(
    replica: HostedModels, provider: Fake
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    known = endpoint("a", provider.url, context_window=7)
    await configure(replica, known, endpoint("down", nowhere))
    assert await replica.context_windows(["a", "down", "unknown"]) == {"a": 7}


async def test_an_answer_in_progress_survives_any_change_of_its_model(
    replica: HostedModels, provider: Fake
) -> None:
    await configure(replica, endpoint("slow", provider.url))
    for change in ([endpoint("slow", provider.url, timeout=9)], [endpoint("a", provider.url)]):
        running = asyncio.create_task(answer(replica, "slow"))
        await asked(provider, len(provider.requests) + 1)
        await configure(replica, *change)
        assert await running == "slow!"


async def test_routers_may_learn_of_a_change_later(
    replica: HostedModels, provider: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    await configure(replica, endpoint("a", provider.url))
    monkeypatch.setattr(hosted, "_LINGER_S", 0.3)
    await configure(replica)
    assert await answer(replica, "a") == "a!"
    await asyncio.sleep(0.4)
    monkeypatch.setattr(hosted, "_ARRIVAL_S", 0.1)
    with pytest.raises(LLMError, match="doesn't know model 'a'") as raised:
        await answer(replica, "a")
    assert (raised.value.retryable, raised.value.asked) == (True, False)


async def test_or_earlier(replica: HostedModels, provider: Fake) -> None:
    await configure(replica)
    early = asyncio.create_task(answer(replica, "a"))
    await asyncio.sleep(0.1)
    await configure(replica, endpoint("a", provider.url))
    assert await early == "a!"


async def test_a_model_that_stays_keeps_its_connections(
    replica: HostedModels, provider: Fake
) -> None:
    await configure(replica, endpoint("a", provider.url))
    await answer(replica, "a")
    await configure(replica, endpoint("a", provider.url), endpoint("b", provider.url))
    await answer(replica, "a")
    assert len(provider.connections) == 1
