"""Promise: an application that a benchmark runs ends with it, whatever becomes of either."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from serve_fixtures import in_repository

from ops.bench.application import running

# Is ready at once, has a child, and doesn't listen to SIGTERM if told so.
PROGRAM = """
import http.server, os, signal, subprocess, sys

class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ready"}')

if "STUBBORN" in os.environ:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.environ["XDG_STATE_HOME"], flush=True)
subprocess.Popen(["sleep", "60"])
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""
# Runs the program above until it is killed.
CALLER = """
import sys
from pathlib import Path
from ops.bench.application import running
with running({}, Path(sys.argv[1]), program="program") as url:
    print(url, flush=True)
    sys.stdin.read()
"""
PATIENCE_S = 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose module `program` can be run."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{in_repository('.')}")
    return tmp_path


def test_one_that_does_not_end_is_killed_with_what_it_started(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.bench.processes._STOP_S", 0.5)
    before = set(psutil.Process().children(recursive=True))
    with running({}, folder / "log", {"STUBBORN": "1"}, program="program") as url:
        assert url.startswith("http://127.0.0.1:")
        started = set(psutil.Process().children(recursive=True)) - before
    assert len(started) == 2
    assert psutil.wait_procs(list(started), PATIENCE_S)[1] == []


def test_what_it_learns_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "of the user"))
    with running({}, folder / "log", program="program"):
        state = Path((folder / "log").read_text().splitlines()[0])
        assert state.is_dir()
        assert state != folder / "of the user"
    assert not state.exists()


def test_it_ends_if_who_runs_it_is_killed(folder: Path) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(folder / "log")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert caller.stdout is not None
    assert caller.stdout.readline().startswith(b"http://127.0.0.1:")
    (application,) = psutil.Process(caller.pid).children()
    caller.kill()
    caller.communicate()
    _, left = psutil.wait_procs([application], PATIENCE_S)
    for process in left:
        process.kill()
    assert left == []
