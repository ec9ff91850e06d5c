"""Plays a case: sends one request to a model that has recovered, and records what was seen."""

import asyncio
import time
from dataclasses import asdict

import httpx

from ops.bench.caller import ask
from ops.bench.fault_server import FaultServer
from ops.bench.faults.application import Times
from ops.bench.faults.cases import Case
from ops.bench.faults.promises import Seen

MESSAGES = [{"role": "user", "content": "Count."}]
LONGEST_S = 120.0
_GONE_S = 1.0  # by then a provider must have noticed a disconnect


async def play(
    case: Case, kind: str, client: httpx.AsyncClient, provider: FaultServer, times: Times
) -> Seen:
    """Plays one case, on a model with no recent failures."""
    await settle(kind, client, provider)
    fallbacks = case.fallbacks or "healthy"
    provider.plays = {
        "first": case.fault.format(**asdict(times)),
        "small": fallbacks,
        "large": fallbacks,
    }
    provider.attempts.clear()
    name = f"first-{kind}"
    # A request that names a set of models gets no fallback outside it.
    models = {"model": "auto", "models": [name]} if case.fallbacks is None else {"model": name}
    began = time.monotonic()
    reply = await ask(client, {**models, "messages": MESSAGES, **case.fields})
    await _attempts_ended(provider)
    return Seen(reply, list(provider.attempts), began, times, kind)


def broken(case: Case, seen: Seen) -> list[str]:
    """The promises that were not kept."""
    running = [attempt.model for attempt in seen.attempts if attempt.ended is None]
    kept = [*case.promise(seen), ("no attempt outlives its request", not running)]
    return [promise for promise, is_kept in kept if not is_kept]


async def settle(kind: str, client: httpx.AsyncClient, provider: FaultServer) -> None:
    """Waits until the model is tried first again, as one without failures."""
    provider.plays = dict.fromkeys(("first", "small", "large"), "healthy")
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        reply = await ask(client, {"model": f"first-{kind}", "messages": MESSAGES})
        if reply.is_answer and reply.attempts == 1 and reply.model == f"first-{kind}":
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"first-{kind} is not tried first: {reply}")


async def _attempts_ended(provider: FaultServer) -> None:
    """Waits a short time for the provider to notice disconnects."""
    deadline = time.monotonic() + _GONE_S
    while time.monotonic() < deadline:
        if all(attempt.ended is not None for attempt in provider.attempts):
            return
        await asyncio.sleep(0.01)
