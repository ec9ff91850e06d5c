"""A contestant that runs: started, asked until it answers, paused while others have their turn."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ops.bench.overhead.contestants import CONTESTANTS, KEY, Contestant, Start
from ops.bench.overhead.load import Target
from ops.bench.overhead.messages import PATH, Ask
from ops.bench.overhead.upstream import serving
from ops.bench.processes import Tree, stop
from ops.ports import free_port

_START_S = 300.0


@dataclass(frozen=True)
class Server:
    """A contestant that answers at `url`; `tree` is empty where it is the upstream itself."""

    url: str
    contestant: Contestant
    tree: Tree | None

    def target(self, model: str) -> Target | None:
        """Where to ask for a kind of model; None if it has none of that kind."""
        name = self.contestant.models.get(model)
        return None if name is None else Target(self.url, KEY, name)

    def pause(self) -> None:
        """Keeps its processes from running."""
        if self.tree is not None:
            self.tree.pause()

    def resume(self) -> None:
        """Lets them run again."""
        if self.tree is not None:
            self.tree.resume()


@dataclass(frozen=True)
class Field:
    """All that run: the contestants by their names, and the upstream's processes."""

    servers: dict[str, Server]
    upstream: Tree


@contextmanager
def started(names: list[str], logs: Path) -> Iterator[Field]:
    """Starts the upstream and the contestants, one after the other, each paused once it answers.

    Raises:
        SystemExit: one did not start; its log says why.
    """
    with ExitStack() as stack:
        url, process = stack.enter_context(serving())
        servers = {}
        for name in names:
            contestant = CONTESTANTS[name]
            if contestant.command is None:
                servers[name] = Server(url, contestant, None)
            else:
                log = logs / f"{name}.log"
                servers[name] = stack.enter_context(_started(contestant, url, log))
        yield Field(servers, Tree(process.pid))


@contextmanager
def _started(contestant: Contestant, upstream: str, log: Path) -> Iterator[Server]:
    assert contestant.command is not None
    port = free_port()
    # A short path, since Ray creates sockets in it.
    temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with temporary as name, log.open("wb") as output:
        folder = Path(name)
        process = subprocess.Popen(
            contestant.command(Start(upstream, port, folder)),
            env=contestant.variables(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Server(f"http://127.0.0.1:{port}", contestant, Tree(process.pid))
        try:
            _wait_until_it_answers(server, process, log)
            server.pause()
            yield server
        finally:
            stop(process)


def _wait_until_it_answers(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_S
    for model in set(server.contestant.models.values()):
        while not _answers(server.url, model):
            if time.monotonic() > deadline or process.poll() is not None:
                sys.exit(f"a contestant did not start; see {log}")
            time.sleep(1)
    while not _is_ready(server):
        if time.monotonic() > deadline or process.poll() is not None:
            sys.exit(f"a contestant did not become ready; see {log}")
        time.sleep(1)


def _is_ready(server: Server) -> bool:
    if server.contestant.health is None:
        return True
    headers = {"authorization": f"Bearer {KEY}"}
    url = f"{server.url}{server.contestant.health}"
    ready: bool = httpx.get(url, headers=headers, timeout=30, trust_env=False).json()["status"] == (
        "ready"
    )
    return ready


def _answers(url: str, model: str) -> bool:
    ask = Ask()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    try:
        response = httpx.post(
            f"{url}{PATH}", content=ask.body(model), headers=headers, timeout=30, trust_env=False
        )
    except httpx.TransportError:
        return False
    return response.status_code == 200 and ask.answered_by(response.content)
