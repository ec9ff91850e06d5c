"""Promise: when a provider fails, callers get an answer or a clear error, without a retry storm.

The cases are those of `make bench-faults`, with shorter times.
"""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ray import serve as rayserve
from serve_fixtures import Server

from ops.bench.fault_server import FaultServer, serving
from ops.bench.faults.application import KINDS, Times, config
from ops.bench.faults.cases import CASES, Case
from ops.bench.faults.outage import outage
from ops.bench.faults.playing import broken, play
from ops.bench.faults.report import caller_saw, provider_saw
from serve.app import build

TIMES = Times(retry_after=1.2, first_token=2, late=2.7, silence=3.5, down=2.5, circuit=1)


@pytest.fixture(scope="module")
def provider() -> Iterator[FaultServer]:
    with serving() as provider:
        yield provider


@pytest.fixture(scope="module")
def url(ray_cluster: str, provider: FaultServer) -> Iterator[str]:
    app = build(config(provider.url, TIMES))
    rayserve.run(app, name="faults", route_prefix="/faults")
    server = Server(f"{ray_cluster}/faults")
    server.wait_until("ready")
    yield server.url
    rayserve.delete("faults")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.row} {case.name}")
@pytest.mark.parametrize("kind", KINDS)
def test_a_provider_that_fails(case: Case, kind: str, url: str, provider: FaultServer) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            seen = await play(case, kind, client, provider, TIMES)
        assert not broken(case, seen), f"{caller_saw(seen.reply)}; {provider_saw(seen)}"

    asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_costs_no_request_and_is_soon_over(
    kind: str, url: str, provider: FaultServer
) -> None:
    async def run() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            seen = await outage(kind, client, provider, TIMES)
        assert not [promise for promise, is_kept in seen.checks() if not is_kept], seen

    asyncio.run(run())


def test_failed_attempts_are_counted_in_a_metric(url: str, provider: FaultServer) -> None:
    async def run() -> None:
        case = next(case for case in CASES if case.fault == "failing-once")
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            before = failed(url, "first-vllm", "provider_error")
            await play(case, "vllm", client, provider, TIMES)
        deadline = time.monotonic() + 20
        while failed(url, "first-vllm", "provider_error") <= before:
            assert time.monotonic() < deadline, "the failed attempt was not counted"
            await asyncio.sleep(0.2)

    asyncio.run(run())


def failed(url: str, model: str, code: str) -> float:
    """Attempts at a model that ended in an error of this code."""
    labels = {"model": model, "outcome": code}
    return sum(
        sample.value
        for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=20).text)
        for sample in family.samples
        if sample.name == "llm_attempts_total" and labels.items() <= sample.labels.items()
    )
