"""More requests than can be answered: how many are answered, and how soon the rest is refused.

    python -m ops.bench.overload [--out FOLDER]

The application, as `make run` serves it, has one model of known capacity at the fault server:
`SLOTS` concurrent answers that take `ANSWER_S` each. Requests arrive at random times whether or not
earlier ones have been answered (an open loop), every other one streamed, at the multiples of the
capacity in `LOADS`. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from ops.bench.application import running
from ops.bench.caller import ask
from ops.ports import free_port

# As many requests may queue.
SLOTS, ANSWER_S = 4, 0.4
CAPACITY = SLOTS / ANSWER_S  # requests per second
# Multiples of the capacity, and the seconds for which each lasts.
LOADS: Mapping[float, float] = {0.5: 20, 1: 60, 2: 20, 5: 20, 10: 60}
# Goodput relative to the capacity; milliseconds until a refusal.
GOALS = {"goodput": 0.9, "refusal_p99_ms": 100}

_MODEL = "bench"
_START_S = 30.0
_WARM_UP_S = 5.0
# Ray runs its workers at a lower priority than other processes, such as the callers here.
_ENVIRONMENT = {"RAY_worker_niceness": "0"}
# The processes that every request passes through, by Ray's titles for them.
_PROCESSES = {"router": ":Router", "proxy": "ray::ProxyActor"}


def config(provider: str) -> dict[str, Any]:
    """The application's config."""
    model = {
        "name": _MODEL,
        "backend": "vllm",
        "model": f"late={ANSWER_S}",
        "hostname": provider,
        "max_ongoing_requests": SLOTS,
        "max_queued_requests": SLOTS,
    }
    return {"llms": {"models": [model]}}


# --- requests ---


@dataclass(frozen=True)
class Sent:
    """One request; `ended` is in seconds since the load began."""

    ended: float
    seconds: float
    status: int
    is_answer: bool
    is_refusal: bool


async def load(client: httpx.AsyncClient, rate: float, seconds: float) -> list[Sent]:
    """Sends `rate` requests a second on average, and waits for the last reply."""
    chance = random.Random(0)
    began = time.monotonic()
    tasks: list[asyncio.Task[Sent]] = []
    at = chance.expovariate(rate)
    while at < seconds:
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        tasks.append(asyncio.create_task(_send(client, began, stream=len(tasks) % 2 == 0)))
        at += chance.expovariate(rate)
    return await asyncio.gather(*tasks)


async def _send(client: httpx.AsyncClient, began: float, *, stream: bool) -> Sent:
    messages = [{"role": "user", "content": "Count."}]
    reply = await ask(client, {"model": _MODEL, "messages": messages, "stream": stream})
    refusal = (429, "overloaded", True)
    return Sent(
        ended=time.monotonic() - began,
        seconds=reply.seconds,
        status=reply.status,
        is_answer=reply.is_answer,
        is_refusal=(reply.status, reply.code, "retry-after" in reply.headers) == refusal,
    )


def memory() -> dict[str, float]:
    """The memory of the application's processes in MiB."""
    ours = psutil.Process().children(recursive=True)
    titles = {process: " ".join(process.cmdline()) for process in ours if process.is_running()}
    return {
        name: sum(p.memory_info().rss for p, title in titles.items() if part in title) / 2**20
        for name, part in _PROCESSES.items()
    }


# --- report ---


@dataclass(frozen=True)
class Level:
    """What was seen at one multiple of the capacity.

    `other` counts the responses that are neither an answer nor a refusal in OpenAI's format;
    `goodput` is answers per second while the load lasted.
    """

    times: float
    seconds: float
    sent: int
    answered: int
    refused: int
    other: int
    goodput: float
    answer_p50_ms: float
    answer_p99_ms: float
    refusal_p50_ms: float
    refusal_p99_ms: float
    router_mib: float
    proxy_mib: float


def level(times: float, seconds: float, sent: Sequence[Sent], mib: Mapping[str, float]) -> Level:
    """Summarises one load."""
    answered = [one for one in sent if one.is_answer]
    refused = [one for one in sent if one.is_refusal]
    return Level(
        times=times,
        seconds=seconds,
        sent=len(sent),
        answered=len(answered),
        refused=len(refused),
        other=len(sent) - len(answered) - len(refused),
        goodput=sum(one.ended <= seconds for one in answered) / seconds,
        answer_p50_ms=_percentile(answered, 50),
        answer_p99_ms=_percentile(answered, 99),
        refusal_p50_ms=_percentile(refused, 50),
        refusal_p99_ms=_percentile(refused, 99),
        router_mib=mib["router"],
        proxy_mib=mib["proxy"],
    )


def _percentile(sent: Sequence[Sent], percent: float) -> float:
    return 1e3 * float(np.percentile([one.seconds for one in sent] or [0.0], percent))


def table(levels: Sequence[Level]) -> str:
    """The results as a Markdown table, a row for each load."""
    columns = list(asdict(levels[0]))
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [
        f"| {' | '.join(f'{value:,.4g}' for value in asdict(one).values())} |" for one in levels
    ]
    return "\n".join(lines)


def draw(levels: Sequence[Level], file: Path) -> None:
    """Plots goodput and the times of refusals."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    times = [one.times for one in levels]
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(7, 7))
    above.plot(times, [one.sent / one.seconds for one in levels], "--", color="grey", label="sent")
    above.plot(times, [one.goodput for one in levels], "o-", label="answered")
    above.axhline(CAPACITY, color="black", linewidth=0.8, label="capacity")
    above.set(ylabel="requests per second", ylim=(0, 2 * CAPACITY))
    refused = [one for one in levels if one.refused]
    for percent in (50, 99):
        values = [getattr(one, f"refusal_p{percent}_ms") for one in refused]
        below.plot([one.times for one in refused], values, "o-", label=f"refusals, p{percent}")
    below.axhline(GOALS["refusal_p99_ms"], color="black", linewidth=0.8, label="goal for p99")
    below.set(xlabel="load, multiples of the capacity", ylabel="milliseconds", yscale="log")
    below.set(xscale="log", xticks=times, xticklabels=[f"{one:g}" for one in times])
    below.minorticks_off()
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


async def measure(url: str) -> list[Level]:
    """Applies all loads, one after the other."""
    levels = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(
        base_url=url, timeout=60, limits=limits, trust_env=False
    ) as client:
        await load(client, CAPACITY, _WARM_UP_S)
        for times, seconds in LOADS.items():
            sent = await load(client, times * CAPACITY, seconds)
            levels.append(level(times, seconds, sent, memory()))
    return levels


@contextmanager
def provider() -> Iterator[str]:
    """Runs the fault server in a process of its own, so that it doesn't slow the callers."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "ops.bench.fault_server", "--port", str(port)],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.overload", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench-overload"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with provider() as at, running(config(at), out / "application.log", _ENVIRONMENT) as url:
        levels = asyncio.run(measure(url))
    report = table(levels)
    print(report, flush=True)
    (out / "table.md").write_text(f"{report}\n")
    draw(levels, out / "overload.png")
    print(
        json.dumps(
            {
                "benchmark": "overload",
                "cores": os.cpu_count(),
                "capacity_per_s": CAPACITY,
                "goals": GOALS,
                "results": [asdict(one) for one in levels],
            }
        )
    )


if __name__ == "__main__":
    main()
