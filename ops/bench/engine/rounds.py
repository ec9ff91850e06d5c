"""Rounds in which every contestant is asked the same, one after the other."""

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

# At once, prompts are short: their reading costs all contestants the same.
AT_ONCE = 16
LONG_PROMPT, SHORT_PROMPT = 300, 32
WARM_UP = 1  # rounds
ALONE = 2  # requests, one after the other, of a round
_SETTLE_S = 2.0  # for what waited while it was stopped


@dataclass(frozen=True)
class Round:
    """One contestant's answers of one round, and its tokens per second of all at once."""

    alone: Sequence[Answer]
    tokens_per_s: float


async def play(session: aiohttp.ClientSession, seed: int) -> Round:
    """Asks one contestant; those of one seed are asked the same."""
    letters = random.Random(seed)

    # New to the engine, which remembers what prompts begin with.
    def prompt(length: int) -> str:
        return "".join(letters.choices(string.ascii_lowercase + " ", k=length))

    alone = [await ask(session, prompt(LONG_PROMPT)) for _ in range(ALONE)]
    prompts = [prompt(SHORT_PROMPT) for _ in range(AT_ONCE)]
    began = time.perf_counter()
    together = await asyncio.gather(*(ask(session, one) for one in prompts))
    seconds = time.perf_counter() - began
    written = sum(sum(read(arrivals).tokens) for arrivals in together)
    return Round([read(arrivals) for arrivals in alone], written / seconds)


async def rounds(servers: Mapping[str, Server], number: int) -> dict[str, list[Round]]:
    """Rounds in which all contestants are asked in turn."""
    played: dict[str, list[Round]] = {name: [] for name in servers}
    order = random.Random(0)
    async with AsyncExitStack() as stack:
        sessions = {
            name: await stack.enter_async_context(aiohttp.ClientSession(server.url))
            for name, server in servers.items()
        }
        for seed in range(-WARM_UP, number):
            for name in order.sample(list(servers), len(servers)):
                servers[name].go_on()
                await asyncio.sleep(_SETTLE_S)
                await ask(sessions[name], "hello")
                one = await play(sessions[name], seed)
                servers[name].stop()
                if seed >= 0:
                    played[name].append(one)
    return played
