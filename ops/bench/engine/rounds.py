"""Rounds, in each of which every contestant gets the same requests in its turn."""

import asyncio
import random
import string
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp

from ops.bench.engine.contestants import Server
from ops.bench.engine.streams import Answer, ask, read

CONCURRENT = 16
# Characters. Concurrent prompts are short: prefill costs all contestants the same.
LONG_PROMPT, SHORT_PROMPT = 300, 32
WARM_UP = 1  # rounds
SEQUENTIAL = 2  # requests of a round, one after the other
_SETTLE_S = 2.0  # after a pause, for work that piled up


@dataclass(frozen=True)
class Round:
    """One contestant's sequential answers in one round, and its throughput with concurrent ones."""

    alone: Sequence[Answer]
    tokens_per_s: float


async def play(session: aiohttp.ClientSession, seed: int) -> Round:
    """Plays one contestant's round; the same seed gives the same prompts."""
    letters = random.Random(seed)

    # Random, since the engine caches prefixes.
    def prompt(length: int) -> str:
        return "".join(letters.choices(string.ascii_lowercase + " ", k=length))

    alone = [await ask(session, prompt(LONG_PROMPT)) for _ in range(SEQUENTIAL)]
    prompts = [prompt(SHORT_PROMPT) for _ in range(CONCURRENT)]
    began = time.perf_counter()
    concurrent = await asyncio.gather(*(ask(session, one) for one in prompts))
    seconds = time.perf_counter() - began
    written = sum(sum(read(arrivals).tokens) for arrivals in concurrent)
    return Round([read(arrivals) for arrivals in alone], written / seconds)


async def rounds(servers: Mapping[str, Server], number: int) -> dict[str, list[Round]]:
    """Plays rounds in which all contestants take turns."""
    played: dict[str, list[Round]] = {name: [] for name in servers}
    order = random.Random(0)
    async with AsyncExitStack() as stack:
        sessions = {
            name: await stack.enter_async_context(aiohttp.ClientSession(server.url))
            for name, server in servers.items()
        }
        for seed in range(-WARM_UP, number):
            for name in order.sample(list(servers), len(servers)):
                servers[name].tree.resume()
                await asyncio.sleep(_SETTLE_S)
                await ask(sessions[name], "hello")
                one = await play(sessions[name], seed)
                servers[name].tree.pause()
                if seed >= 0:
                    played[name].append(one)
    return played
