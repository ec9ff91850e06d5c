"""Processes of a cluster of three nodes are killed one by one, under steady load: what callers see.

    python -m ops.bench.chaos [--rate 10] [--seconds 10] [--out FOLDER]

Half of the requests are streamed. A caller sends a request once more where the connection breaks or
Ray's own proxy fails, as OpenAI's client does: when the router that works on it is killed, nothing
is left that could. At the end comes a table, then a line of JSON.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import psutil
import ray
from ray import serve as rayserve
from ray.cluster_utils import Cluster
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from ops.bench import fault_server
from ops.bench.application import free_port
from ops.bench.caller import Reply, ask
from serve.app import build
from serve.config import DEFAULT_CONFIG

DEADLINE_S = 20.0  # that the server is given for a request
_LATE_S = 2.0  # that one may be over it, on a machine that is busy
_START_S, _RECOVERY_S = 180.0, 60.0
_STEADY_S = 2.0  # before a kill, longer than an answer takes
_CPUS = 8  # of each worker, enough for all when one of them is gone
_APP = "llms"
# A token every 20 ms: an answer takes 1.2 s, so that some are always under way.
_PROVIDERS_MODEL = "paced=0.02"

# By Ray's own settings it may take 15 s until a node is believed to be lost, and as long a replica
# that was streaming to that node stands still. What is set outside wins.
_SETTINGS = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}

REPLICAS = {"quick": 2, "only": 1, "demo-small": 2, "Router": 2}


# --- the cluster ---


def configuration(provider: str) -> dict[str, Any]:
    """Three models: one with two replicas, one with a single one, and one in its replicas."""

    def fixed(model: str) -> dict[str, int]:
        return {"min_replicas": REPLICAS[model], "max_replicas": REPLICAS[model]}

    hosted = {"backend": "vllm", "hostname": provider, "model": _PROVIDERS_MODEL}
    small = {"backend": "huggingface", "model": str(DEFAULT_CONFIG.parent / "models/demo-small")}
    models = [
        {"name": name, "autoscaling": fixed(name), **model}
        for name, model in {"quick": hosted, "only": hosted, "demo-small": small}.items()
    ]
    server = {"autoscaling": fixed("Router"), "request_timeout": DEADLINE_S}
    return {"llms": {"models": models}, "server": server}


class Nodes:
    """A head, which has Serve's proxy and controller, and two workers, which have the replicas."""

    def __init__(self, folder: str) -> None:
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": folder}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.workers = [self.cluster.add_node(num_cpus=_CPUS) for _ in range(2)]

    def processes(self) -> dict[int, str]:
        """What each process is, by its id."""
        nodes = [self.cluster.head_node, *self.workers]
        return {pid: title for node in nodes for pid, title in _children(node).items()}

    def one(self, title: str) -> list[int]:
        """One process."""
        return [next(pid for pid, known in self.processes().items() if known.startswith(title))]

    def worker(self) -> list[int]:
        """All of a worker: the one with fewer routers, since without any nobody could answer."""

        def routers(node: Any) -> int:
            return sum(_replica("Router") in title for title in _children(node).values())

        node = min(self.workers, key=routers)
        return [*_children(node), _raylet(node)]

    def are_well(self) -> bool:
        """Whether all that should run does, by the processes and by what Serve says."""
        titles = list(self.processes().values())
        wanted = {_SEQUENCE: 1, _CONTROLLER: 1}
        wanted |= {_replica(name): number for name, number in REPLICAS.items()}
        if any(sum(t.startswith(title) for t in titles) < n for title, n in wanted.items()):
            return False
        try:
            (app,) = rayserve.status().applications.values()
        except (RayError, RayServeException, ValueError):
            return False  # the controller is away
        running = {name: each.replica_states for name, each in app.deployments.items()}
        return running == {name: {"RUNNING": number} for name, number in REPLICAS.items()}


_SEQUENCE, _CONTROLLER = "ray::Sequence", "ray::ServeController"


def _replica(deployment: str) -> str:
    return f"ray::ServeReplica:{_APP}:{deployment}"


def _raylet(node: Any) -> int:
    pid: int = node.all_processes["raylet"][0].process.pid
    return pid


def _children(node: Any) -> dict[int, str]:
    titles = {}
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(_raylet(node)).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                titles[child.pid] = " ".join(child.cmdline())
    return titles


@contextmanager
def running(provider: str) -> Iterator[tuple[str, Nodes]]:
    """The application's URL and its nodes, till the block ends."""
    temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    os.environ.update(_SETTINGS | os.environ)
    with temporary as folder:
        nodes = Nodes(folder)
        try:
            ray.init(nodes.cluster.address, log_to_driver=False)
            port = free_port()
            http = {"host": "127.0.0.1", "port": port}
            rayserve.start(proxy_location="HeadOnly", http_options=http)
            rayserve.run(build(configuration(provider)), name=_APP)
            yield f"http://127.0.0.1:{port}", nodes
        finally:
            ray.shutdown()
            nodes.cluster.shutdown()  # type: ignore[no-untyped-call]


# --- the callers ---


@dataclass(frozen=True)
class Question:
    """A request, and what is a right answer to it."""

    model: str
    stream: bool
    messages: Sequence[Mapping[str, str]]
    models: Sequence[str] | None = None
    right: str = fault_server.TEXT

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        allowed = {"models": self.models} if self.models else {}
        fields = {"model": self.model, "messages": self.messages, "stream": self.stream}
        return {**fields, **allowed, "temperature": 0}


_SAY = [{"role": "user", "content": "Say your words."}]
_SUM = [{"role": "user", "content": "What is 7 plus 5?"}]
QUESTIONS = [
    Question(model, stream, messages, models, right)
    for model, messages, models, right in (
        ("auto", _SAY, ("quick", "only"), fault_server.TEXT),
        ("quick", _SAY, None, fault_server.TEXT),
        ("demo-small", _SUM, None, "12"),
        ("only", _SAY, None, fault_server.TEXT),
    )
    for stream in (True, False)
]


class Broken(Exception):
    """The connection was, or the proxy failed: nothing of ours has spoken."""


@dataclass
class Call:
    """What became of one request: "answered", "refused" by an error of ours, or "lost"."""

    question: Question
    began: float
    ended: float = 0.0
    outcome: str = "lost"
    said: str = ""
    retries: int = 0
    longest: float = 0.0
    attempts: int = 0
    rescues: int = 0

    @property
    def is_well(self) -> bool:
        """Whether its caller noticed nothing."""
        return self.outcome == "answered" and not self.retries


async def call(client: httpx.AsyncClient, question: Question) -> Call:
    """Asks, and once more where the connection breaks."""
    made = Call(question, time.monotonic())
    for made.retries in (0, 1):
        began = time.monotonic()
        try:
            _judge(made, await _ask(client, question))
            break
        except Broken as error:
            made.said = str(error)
        except httpx.TimeoutException:
            made.said = "it hung"
            break
        finally:
            made.longest = max(made.longest, time.monotonic() - began)
    made.ended = time.monotonic()
    return made


async def _ask(client: httpx.AsyncClient, question: Question) -> Reply:
    try:
        reply = await ask(client, question.body)
    except httpx.TimeoutException:
        raise
    except (httpx.HTTPError, ValueError) as error:
        raise Broken(f"{type(error).__name__}: {error}") from error
    if reply.is_stream and not (reply.error or reply.reasons or reply.done):
        raise Broken("the stream ended without an end")
    return reply


def _judge(made: Call, reply: Reply) -> None:
    made.attempts, made.rescues = reply.attempts, len(reply.rescued)
    if reply.is_answer and reply.text == made.question.right:
        made.outcome = "answered"
    elif reply.is_error and (reply.is_stream or reply.status in (429, 503, 504)):
        made.outcome, made.said = "refused", f"{reply.status} {reply.code}"
    else:
        made.said = f"{reply.status} {reply.error or reply.text!r} {reply.reasons} {reply.done}"


@asynccontextmanager
async def load(url: str, rate: float) -> AsyncIterator[list[Call]]:
    """So many requests a second, none of which waits for another; gives those that are over. The
    block's end waits for all."""
    calls: list[Call] = []
    async with (
        httpx.AsyncClient(
            base_url=url, timeout=DEADLINE_S + 2 * _LATE_S, trust_env=False
        ) as client,
        asyncio.TaskGroup() as group,
    ):

        async def one(question: Question) -> None:
            calls.append(await call(client, question))

        async def send() -> None:
            at = time.monotonic()
            for question in cycle(QUESTIONS):
                group.create_task(one(question))
                at += 1 / rate
                await asyncio.sleep(at - time.monotonic())

        sending = group.create_task(send())
        try:
            yield calls
        finally:
            sending.cancel()


# --- the kills ---


@dataclass
class Part:
    """What callers saw of one kill.

    Attributes:
        killed: what was.
        took_only: whether the one replica of "only" went with it, so that its requests may fail.
        recovery: seconds until all ran again and every request went well; None: not in time.
        calls: all that were made.
    """

    killed: str
    took_only: bool = False
    recovery: float | None = None
    calls: list[Call] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, Any]:
        """Its line of the table."""
        outcomes = Counter(call.outcome for call in self.calls)
        refused = [call for call in self.calls if call.outcome == "refused"]
        # No model but the one that died may refuse a whole answer.
        unwarranted = [
            call
            for call in refused
            if not call.question.stream and not (self.took_only and call.question.model == "only")
        ]
        return {
            "sent": len(self.calls),
            "answered": outcomes["answered"],
            "refused": outcomes["refused"],
            "lost": outcomes["lost"],
            "unwarranted": len(unwarranted),
            "retried": sum(call.retries for call in self.calls),
            "again": sum(call.attempts > 1 for call in self.calls),
            "rescued": sum(call.rescues > 0 for call in self.calls),
            "longest_s": round(max(call.longest for call in self.calls), 2),
            "recovery_s": None if self.recovery is None else round(self.recovery, 1),
            "said": dict(Counter(call.said for call in self.calls if not call.is_well)),
        }


KILLS: Mapping[str, Callable[[Nodes], list[int]]] = {
    "a backend replica": lambda nodes: nodes.one(_replica("quick")),
    "a model's only replica": lambda nodes: nodes.one(_replica("only")),
    "a router replica": lambda nodes: nodes.one(_replica("Router")),
    "the sequence": lambda nodes: nodes.one(_SEQUENCE),
    "Serve's controller": lambda nodes: nodes.one(_CONTROLLER),
    "a worker node": Nodes.worker,
}


async def part(url: str, nodes: Nodes, killed: str, rate: float, seconds: float) -> Part:
    """Kills under load, and waits until all is well for so many `seconds`."""
    result = Part(killed)
    async with load(url, rate) as result.calls:
        await asyncio.sleep(_STEADY_S)
        victims = await asyncio.to_thread(KILLS[killed], nodes)
        titles = nodes.processes()
        result.took_only = any(titles.get(pid, "").startswith(_replica("only")) for pid in victims)
        at = time.monotonic()
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        back = await _back(nodes, victims, at + _RECOVERY_S)
        await asyncio.sleep(seconds)
    if back is not None:
        bad = [call.ended for call in result.calls if not call.is_well]
        result.recovery = max([back, *bad]) - at
    return result


async def _back(nodes: Nodes, victims: Collection[int], deadline: float) -> float | None:
    """When all ran again."""
    while (now := time.monotonic()) < deadline:
        gone = not any(map(_lives, victims))
        if gone and await asyncio.to_thread(nodes.are_well):
            return now
        await asyncio.sleep(0.1)
    return None


def _lives(pid: int) -> bool:
    try:
        # A zombie is dead, but whoever started it hasn't looked.
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def measure(rate: float, seconds: float) -> list[Part]:
    """All kills, one after the other."""
    parts = []
    with fault_server.serving() as provider:
        async with _started(provider.url) as (url, nodes):
            for killed in KILLS:
                parts.append(await part(url, nodes, killed, rate, seconds))
                print(json.dumps({killed: parts[-1].figures}), file=sys.stderr, flush=True)
    return parts


@asynccontextmanager
async def _started(provider: str) -> AsyncIterator[tuple[str, Nodes]]:
    """The application once every question is answered."""
    with running(provider) as (url, nodes):
        if await _back(nodes, (), time.monotonic() + _START_S) is None:
            raise RuntimeError("the application does not start")
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S, trust_env=False) as client:
            # Several at once, so that each router and each replica has had some.
            for made in await asyncio.gather(*(call(client, each) for each in QUESTIONS * 4)):
                if made.outcome != "answered":
                    raise RuntimeError(f"{made.question} is not answered: {made.said}")
        yield url, nodes


# --- the report ---

_COLUMNS = ("sent", "answered", "refused", "lost", "retried", "again", "rescued", "longest_s")


def table(parts: Sequence[Part]) -> str:
    """In Markdown."""
    columns = ("killed", *_COLUMNS, "recovery_s")
    lines = [columns, ["---"] * len(columns)]
    lines += [[part.killed, *(part.figures[name] for name in columns[1:])] for part in parts]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    """`python -m ops.bench.chaos`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=10, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10, help="that it goes on after each kill")
    parser.add_argument("--out", type=Path, help="a folder for chaos.md and chaos.json")
    given = parser.parse_args()
    # What Ray prints is none of our figures.
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Whoever ends this ends the cluster with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parts = asyncio.run(measure(given.rate, given.seconds))
    line = json.dumps({part.killed: part.figures for part in parts})
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / "chaos.md").write_text(table(parts) + "\n")
        (given.out / "chaos.json").write_text(line + "\n")
    print(table(parts), line, sep="\n", file=told, flush=True)


if __name__ == "__main__":
    main()
