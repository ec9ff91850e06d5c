"""Promise: the terminal shows `make run`'s own lines, a file all else; bars need a terminal."""

import io
import os
import subprocess
import sys
from pathlib import Path

from serve_fixtures import in_repository

from ops.local.console import Console

# Writes in every way that Ray does: from Python, to the descriptors, and from another process.
NOISY = """
import os, subprocess, sys
from pathlib import Path
from ops.local.console import open_console, rotate
log = Path(sys.argv[1])
with open_console(log) as console:
    print("noise 1")
    print("noise 2", file=sys.stderr)
    os.write(2, b"noise 3\\n")
    subprocess.run(["echo", "noise 4"], check=True)
    console.line("a step")
    if console.log:
        sys.stdout.flush()
        rotate(log, 1)
        print("noise 5", flush=True)
    raise SystemExit("the reason")
"""


def run(log: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", NOISY, str(log)],
        cwd=in_repository("."),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_noise_goes_to_the_file_and_the_reason_for_the_exit_to_the_terminal(
    tmp_path: Path,
) -> None:
    log = tmp_path / "state" / "ray.log"
    ended = run(log)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "a step\n", "the reason\n")
    before = log.with_suffix(".old.log").read_text()
    assert sorted(before.split("\n")) == ["", "noise 1", "noise 2", "noise 3", "noise 4"]
    assert log.read_text() == "noise 5\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_verbose_prints_everything(tmp_path: Path) -> None:
    ended = run(tmp_path / "ray.log", VERBOSE="1")
    assert ended.stdout.count("noise") == 2
    assert ended.stderr.count("noise") == 2
    assert "a step" in ended.stdout
    assert not (tmp_path / "ray.log").exists()


def test_without_a_terminal_a_stage_is_one_line() -> None:
    stream = io.StringIO()
    console = Console(stream, Path("ray.log"))
    for done in range(3):
        console.progress("store: importing h.jsonl", done, 3)
    console.line(console.red("Ready"))
    assert stream.getvalue() == "  store: importing h.jsonl\nReady\n"


def test_at_a_terminal_a_stage_is_a_bar() -> None:
    master, slave = os.openpty()
    with open(slave, "w") as terminal:
        console = Console(terminal, Path("ray.log"))
        console.progress("weights", 1, 3)
        console.progress("weights", 2, 3)
        console.progress("fitting")
        console.line(console.red("lost"))
        shown = ""
        while "lost" not in shown:
            shown += os.read(master, 2**14).decode()
    os.close(master)
    assert "weights: " in shown
    assert "2 of 3" in shown
    assert "fitting, 00:00" in shown
    assert "\x1b[31mlost" in shown
