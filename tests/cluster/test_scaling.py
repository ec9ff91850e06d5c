"""Promise: a model with `slo` gets replicas for a spike and gives them up again, and one that is
asleep answers the request that wakes it."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from ray import serve as rayserve
from serve_fixtures import Server

from serve.app import build
from serve.ray_internals import application_details

APP = "scaling"
TTFT_S, DOWN_S = 3.0, 3.0
PATIENCE_S = 120.0
# A replica answers two such requests a second: two places, a second each.
TOKENS, RATE, PLACES = 20, 20, 2
MOST = 4


def simulated(name: str, **keys: Any) -> dict[str, Any]:
    return {
        "name": name,
        "backend": "simulated",
        "places": PLACES,
        "tokens_per_second": RATE,
        "max_ongoing_requests": PLACES,
        "max_queued_requests": 1000,
        "first_token_timeout": 30,
        **keys,
    }


@pytest.fixture(scope="module")
def url(ray_cluster: str) -> Iterator[str]:
    scaled = {"max_replicas": MOST, "downscale_delay_s": DOWN_S, "slo": {"ttft_s": TTFT_S}}
    models = [
        simulated("busy", autoscaling=scaled),
        simulated("asleep", autoscaling={**scaled, "min_replicas": 0}),
    ]
    one = {"min_replicas": 1, "max_replicas": 1}
    app = build({"llms": {"models": models}, "server": {"autoscaling": one}})
    rayserve.run(app, name=APP, route_prefix=f"/{APP}")
    server = Server(f"{ray_cluster}/{APP}")
    server.wait_until("ready")
    yield server.url
    rayserve.delete(APP)


@dataclass(frozen=True)
class Answer:
    """An answer's tokens, and the seconds until the first."""

    tokens: int
    ttft_s: float


async def ask(client: httpx.AsyncClient, model: str, tokens: int = TOKENS) -> Answer:
    """Asks for so many tokens as a stream; fails if it isn't answered."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Count."}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began, first, usage = time.monotonic(), None, None
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            chunk = json.loads(line.removeprefix("data: ")) if line.startswith("data: {") else {}
            assert "error" not in chunk, chunk
            usage = chunk.get("usage") or usage
            text = "".join(part["delta"].get("content") or "" for part in chunk.get("choices", ()))
            if text and first is None:
                first = time.monotonic()
    assert first is not None
    assert usage is not None
    return Answer(usage["completion_tokens"], first - began)


def replicas(model: str) -> int:
    """Those that Ray Serve is to keep."""
    details = application_details(APP)
    assert details is not None
    return int(details["deployments"][model]["target_num_replicas"])


async def until(model: str, number: int, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while replicas(model) != number:
        assert time.monotonic() < deadline, f"{replicas(model)} replicas"
        await asyncio.sleep(0.2)


async def test_a_spike_is_answered_in_time_and_its_replicas_leave(url: str) -> None:
    """Five requests a second, where one replica answers two: for 25 seconds at least, and as long
    as new replicas take to start here."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for _ in range(3):
            await ask(client, "busy")
        assert replicas("busy") == 1
        asking: list[asyncio.Task[Answer]] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(asking) < 125 or not begin_in_time(asking):
            assert time.monotonic() < deadline, f"late with {replicas('busy')} replicas"
            asking.append(asyncio.create_task(ask(client, "busy")))
            await asyncio.sleep(0.2)
        most = replicas("busy")
        answers = await asyncio.gather(*asking)
        await until("busy", 1, DOWN_S + 10)
    assert most > 2
    assert {answer.tokens for answer in answers} == {TOKENS}


def begin_in_time(asking: list[asyncio.Task[Answer]]) -> bool:
    """Whether the latest answers do, of those that have ended."""
    latest = [task.result() for task in asking if task.done()][-25:]
    return len(latest) == 25 and max(answer.ttft_s for answer in latest) <= TTFT_S


async def test_a_model_asleep_answers_the_request_that_wakes_it_and_sleeps_after_a_long_stream(
    url: str,
) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        assert replicas("asleep") == 0
        long = int(3 * DOWN_S * RATE)
        answer = await ask(client, "asleep", long)
        assert answer.tokens == long
        assert replicas("asleep") == 1
        await until("asleep", 0, DOWN_S + 10)
