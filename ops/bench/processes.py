"""A server's processes: their pause and end, what each is for, what CPU and memory they take."""

import re
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress

import psutil

Parts = Mapping[str, float]
Used = Mapping[int, tuple[str, float]]

# What a process is for, by its command line; Ray titles its workers like this, with the method that
# runs after a dot.
_REPLICA = re.compile(r"ray::ServeReplica:[^:]*:([\w-]+)")
_PARTS = {
    "HAProxy": re.compile(r"^\S*\bhaproxy\b"),
    "HAProxy's manager": re.compile(r"ray::HAProxyManager"),
    "Serve's proxy": re.compile(r"ray::ProxyActor"),
    "Serve's controller": re.compile(r"ray::ServeController"),
    "raylet": re.compile(r"^\S*/raylet\b"),
    "GCS": re.compile(r"^\S*/gcs_server\b"),
    "other actors": re.compile(r"^ray::(?!IDLE)"),
    "Ray's agents": re.compile(r"agent\.py|log_monitor\.py|monitor\.py"),
    "LiteLLM proxy": re.compile(r"bin/litellm\b|multiprocessing"),
}
_REST = "others"
_STOP_S = 60.0


def part(command: str) -> str:
    """What a process is for: a replica's deployment, or one of Ray's parts."""
    if replica := _REPLICA.search(command):
        return replica[1]
    return next((name for name, form in _PARTS.items() if form.search(command)), _REST)


class Tree:
    """A process and all that it started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._root = psutil.Process(pid)

    def processes(self) -> list[psutil.Process]:
        """All of them, parents before their children."""
        with suppress(psutil.NoSuchProcess):
            return [self._root, *self._root.children(recursive=True)]
        return []

    def pause(self) -> None:
        """Keeps all from running (SIGSTOP)."""
        # Parents first, so that none takes a child's silence for its death.
        for process in self.processes():
            _signal(process, signal.SIGSTOP)

    def resume(self) -> None:
        """Lets all run again (SIGCONT)."""
        for process in reversed(self.processes()):
            _signal(process, signal.SIGCONT)

    def own_cpu(self) -> float:
        """The CPU seconds that the process itself has used."""
        times = self._root.cpu_times()
        return float(times.user + times.system)

    def cpu(self) -> Used:
        """What each process, by its id, is for, and the CPU seconds that it has used."""
        used = {}
        for process, name in self._parts():
            with suppress(psutil.Error):
                times = process.cpu_times()
                used[process.pid] = (name, times.user + times.system)
        return used

    def memory(self) -> dict[str, float]:
        """Resident MiB of each part."""
        resident: dict[str, float] = defaultdict(float)
        for process, name in self._parts():
            with suppress(psutil.Error):
                resident[name] += process.memory_info().rss / 2**20
        return dict(resident)

    def _parts(self) -> Iterator[tuple[psutil.Process, str]]:
        for process in self.processes():
            with suppress(psutil.Error):
                yield process, part(" ".join(process.cmdline()))


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a server, paused or not, and what it started and leaves behind."""
    if process.poll() is not None:
        return
    tree = Tree(process.pid)
    started = tree.processes()
    tree.resume()
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        for one in started:
            _signal(one, signal.SIGKILL)
        process.wait()


def spent(before: Used, after: Used) -> Parts:
    """The CPU seconds of each part between two looks."""
    seconds: dict[str, float] = defaultdict(float)
    for pid, (name, used) in after.items():
        seconds[name] += used - before.get(pid, (name, 0.0))[1]
    return dict(seconds)


def _signal(process: psutil.Process, sign: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(sign)
