"""Promise: overload is refused at once, abandoned requests free their place, deadlines hold."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest
from ray import serve as rayserve
from serve_fixtures import Server

from ops.bench.caller import PATH, Reply, ask
from ops.bench.fault_server import TEXT, TOKENS, Attempt, FaultServer, serving
from serve.app import build

# Requests that a replica works on, and that wait in the router.
WORKING, WAITING = 2, 2
# The deadline that callers set, and what a busy machine may add; a provider would take a minute.
DEADLINE_S, LATE_S = 1, 5
HEADER = "x-request-timeout-seconds"
BUSY = {"model": "busy", "messages": [{"role": "user", "content": "Count."}]}
BOTH = {**BUSY, "model": "auto", "models": ["busy", "spare"]}


@pytest.fixture(scope="module")
def provider() -> Iterator[FaultServer]:
    with serving() as provider:
        yield provider


@pytest.fixture(scope="module")
def url(ray_cluster: str, provider: FaultServer) -> Iterator[str]:
    models = [
        {
            "name": name,
            "backend": "vllm",
            "hostname": provider.url,
            "max_ongoing_requests": WORKING,
            "max_queued_requests": WAITING,
        }
        for name in ("busy", "spare")
    ]
    one = {"min_replicas": 1, "max_replicas": 1}
    app = build({"llms": {"models": models}, "server": {"autoscaling": one}})
    rayserve.run(app, name="overload", route_prefix="/overload")
    server = Server(f"{ray_cluster}/overload")
    server.wait_until("ready")
    yield server.url
    rayserve.delete("overload")


@pytest.fixture
async def client(url: str, provider: FaultServer) -> AsyncIterator[httpx.AsyncClient]:
    """A caller, while both models have room and don't fail."""
    provider.plays = {"busy": "healthy", "spare": "healthy"}
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for name in provider.plays:
            reply = await ask(client, {**BUSY, "model": name})
            assert reply.is_answer, reply
        provider.attempts.clear()
        yield client


async def until(condition: Callable[[], bool], patience_s: float = 10) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.01)


def most_at_once(attempts: list[Attempt]) -> int:
    """The most attempts that were in flight at one time."""
    starts = [(attempt.at, 1) for attempt in attempts]
    ends = [(attempt.ended, -1) for attempt in attempts if attempt.ended is not None]
    most = working = 0
    for _, step in sorted(starts + ends):
        working += step
        most = max(most, working)
    return most


async def test_requests_beyond_the_queue_are_refused_as_openai_does_and_the_others_answered(
    client: httpx.AsyncClient, provider: FaultServer
) -> None:
    provider.plays["busy"] = "late=1"
    bodies = [{**BUSY, "stream": number % 2 == 0} for number in range(20)]
    replies = await asyncio.gather(*(ask(client, body) for body in bodies))
    answered = [reply for reply in replies if reply.is_answer]
    refused = [reply for reply in replies if not reply.is_answer]
    assert len(answered) >= WORKING + WAITING
    assert {reply.text for reply in answered} == {TEXT}
    assert len(refused) >= len(bodies) // 2
    for reply in refused:
        assert (reply.status, reply.code) == (429, "overloaded")
        assert reply.error
        assert reply.error.keys() == {"message", "type", "param", "code"}
        assert int(reply.headers["retry-after"]) >= 1
    assert max(reply.seconds for reply in refused) < min(reply.seconds for reply in answered)
    assert most_at_once(provider.attempts) == WORKING


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_abandoned_requests_free_their_place_at_the_provider_in_the_replica_and_in_the_queue(
    client: httpx.AsyncClient, provider: FaultServer, stream: bool
) -> None:
    """The model and its queue are full of requests that take a minute."""
    provider.plays["busy"] = f"paced={60 / TOKENS}"
    body = {**BUSY, "stream": stream}
    asking = [asyncio.create_task(ask(client, body)) for _ in range(20)]
    await until(lambda: len(in_flight(provider)) == WORKING)
    # Ray admits a few more than may wait when many arrive at once.
    await until(lambda: sum(task.done() for task in asking) >= len(asking) // 2)
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    provider.plays["busy"] = "late=0.2"
    fresh = await asyncio.gather(*(asked_until_answered(client, body) for _ in range(WORKING)))
    assert [reply.text for reply in fresh] == [TEXT] * len(fresh)
    await until(lambda: not in_flight(provider))
    abandoned = [attempt for attempt in provider.attempts if attempt.outcome != "200"]
    assert {attempt.outcome for attempt in abandoned} == {"left"}


async def asked_until_answered(client: httpx.AsyncClient, body: Mapping[str, Any]) -> Reply:
    """Asked again while the queue is full, since Ray takes a moment to cancel what waits in it."""
    for _ in range(10 * LATE_S):
        if (reply := await ask(client, body)).status != 429:
            break
        await asyncio.sleep(0.1)
    return reply


def in_flight(provider: FaultServer) -> list[Attempt]:
    return [attempt for attempt in provider.attempts if attempt.ended is None]


@pytest.mark.parametrize("fault", ["silent", "unavailable", "rate-limited=20"])
@pytest.mark.parametrize("body", [BUSY, BOTH], ids=["one model", "two models"])
async def test_a_callers_deadline_ends_the_request_with_all_its_attempts(
    client: httpx.AsyncClient, provider: FaultServer, fault: str, body: Mapping[str, Any]
) -> None:
    provider.plays = {"busy": fault, "spare": fault}
    reply = await ask(client, body, {HEADER: str(DEADLINE_S)})
    assert reply.seconds < DEADLINE_S + LATE_S
    assert reply.is_error
    codes = {"silent": (504, "timeout"), "unavailable": (502, "provider_error")}
    assert (reply.status, reply.code) == codes.get(fault, (429, "rate_limit_exceeded"))


async def test_a_deadline_ends_a_stream_with_an_error_inside_it(
    client: httpx.AsyncClient, provider: FaultServer
) -> None:
    provider.plays["busy"] = "paced=0.1"
    reply = await ask(client, {**BUSY, "stream": True}, {HEADER: str(DEADLINE_S)})
    assert reply.is_error
    assert reply.code == "timeout"
    assert reply.text
    assert TEXT.startswith(reply.text)
    assert reply.seconds < DEADLINE_S + LATE_S
    await until(lambda: not in_flight(provider), patience_s=LATE_S)
    assert [attempt.outcome for attempt in provider.attempts] == ["left"]


@pytest.mark.parametrize("seconds", ["soon", "0", "-1", "nan", "inf", ""])
async def test_an_invalid_deadline_is_refused(client: httpx.AsyncClient, seconds: str) -> None:
    reply = await client.post(PATH, json=BUSY, headers={HEADER: seconds})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == HEADER
