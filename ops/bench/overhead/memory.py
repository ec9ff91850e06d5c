"""Whether memory grows: resident memory of a contestant's parts after each 10,000 requests."""

import asyncio
from collections.abc import Mapping, Sequence

from ops.bench.overhead.contestants import ENDPOINT, LITELLM
from ops.bench.overhead.load import counted
from ops.bench.overhead.messages import Ask
from ops.bench.overhead.servers import Server
from ops.bench.processes import Parts

# Requests before each look: whole and streamed, and some by LiteLLM, which takes longer.
_LOADS = (
    (ENDPOINT, Ask(), 4500),
    (ENDPOINT, Ask(stream=True), 4500),
    (LITELLM, Ask(stream=True), 1000),
)
_STEP = sum(number for *_, number in _LOADS)
_CONNECTIONS = 32
_SETTLE_S = 2.0


async def grow(server: Server, requests: int) -> list[Parts]:
    """Sends so many requests; returns the MiB of each part after every 10,000 of them.

    Raises:
        RuntimeError: an answer was wrong.
    """
    assert server.tree is not None
    looks: list[Parts] = []
    server.resume()
    for _ in range(requests // _STEP):
        for model, ask, number in _LOADS:
            if (target := server.target(model)) is None:
                continue
            measured = await counted(target, ask, _CONNECTIONS, number)
            if measured.faults:
                raise RuntimeError(f"{len(measured.faults)} faults, first {measured.faults[0]}")
        await asyncio.sleep(_SETTLE_S)
        looks.append(server.tree.memory())
        print(f"{len(looks) * _STEP:,} requests: {sum(looks[-1].values()):,.0f} MiB", flush=True)
    server.pause()
    return looks


def table(grown: Mapping[str, Sequence[Parts]]) -> str:
    """The first and the last look as Markdown, for each contestant."""
    lines = []
    for name, looks in grown.items():
        first, last = looks[0], looks[-1]
        lines += [
            f"| {name}, MiB | after {_STEP:,} | after {len(looks) * _STEP:,} | growth |",
            "|---|---|---|---|",
        ]
        lines += [_row(part, first.get(part, 0.0), mib) for part, mib in last.items()]
        lines += [_row("all", sum(first.values()), sum(last.values())), ""]
    return "\n".join(lines)


def _row(part: str, before: float, after: float) -> str:
    return f"| {part} | {before:,.0f} | {after:,.0f} | {after - before:+,.0f} |"
