"""Plays a case: one request to a model that had not failed before, and what was seen of it."""

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
_GONE_S = 1.0  # after which a provider works for nobody who has left


async def play(
    case: Case, kind: str, client: httpx.AsyncClient, provider: FaultServer, times: Times
) -> Seen:
    """One case, with a model that did nothing wrong before."""
    await settle(kind, client, provider)
    fallbacks = case.fallbacks or "healthy"
    provider.plays = {
        "first": case.fault.format(**asdict(times)),
        "small": fallbacks,
        "large": fallbacks,
    }
    provider.attempts.clear()
    name = f"first-{kind}"
    # Who names a set of models gets none beside them.
    models = {"model": "auto", "models": [name]} if case.fallbacks is None else {"model": name}
    began = time.monotonic()
    reply = await ask(client, {**models, "messages": MESSAGES, **case.asked})
    await _all_over(provider)
    return Seen(reply, list(provider.attempts), began, times, kind)


def broken(case: Case, seen: Seen) -> list[str]:
    """The promises that were not kept."""
    left = [attempt.model for attempt in seen.attempts if attempt.ended is None]
    kept = [*case.promise(seen), ("nobody works for one who has left", not left)]
    return [promise for promise, is_kept in kept if not is_kept]


async def settle(kind: str, client: httpx.AsyncClient, provider: FaultServer) -> None:
    """Waits till the model is asked first again, as one that has not failed."""
    provider.plays = dict.fromkeys(("first", "small", "large"), "healthy")
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        reply = await ask(client, {"model": f"first-{kind}", "messages": MESSAGES})
        if reply.is_answer and reply.attempts == 1 and reply.model == f"first-{kind}":
            return
        await asyncio.sleep(0.1)
    raise TimeoutError(f"first-{kind} is not asked first: {reply}")


async def _all_over(provider: FaultServer) -> None:
    """Waits till the provider has seen who has left, but not for long."""
    deadline = time.monotonic() + _GONE_S
    while time.monotonic() < deadline:
        if all(attempt.ended is not None for attempt in provider.attempts):
            return
        await asyncio.sleep(0.01)
