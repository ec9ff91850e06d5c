"""An environment of `pip install .` alone, and the application that it serves."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from serve_fixtures import Server, in_repository

# Made by `make`; `make test-latest` names another.
FOLDER = in_repository(os.environ.get("PLAIN_ENVIRONMENT", ".venv-plain")).resolve()
START_SECONDS = 240
STOP_SECONDS = 90


@dataclass(frozen=True)
class PlainInstall:
    """The environment. Its processes see `home`, and nothing of this repository."""

    home: Path

    @property
    def variables(self) -> dict[str, str]:
        """All that its processes inherit: no key, no PYTHONPATH, none of the user's caches."""
        ours = {name: os.environ[name] for name in ("PATH", "RAY_TMPDIR") if name in os.environ}
        home = str(self.home)
        return {**ours, "HOME": home, "XDG_STATE_HOME": home, "PYTHONUNBUFFERED": "1"}

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs its Python to completion."""
        return self.run("python", *arguments)

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a command of the environment to completion."""
        return subprocess.run(
            [FOLDER / "bin" / command, *arguments],
            cwd=self.home,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=200,
        )

    @contextmanager
    def serving(
        self, command: str, *arguments: str, port: int, **variables: str
    ) -> Iterator[Server]:
        """Runs a command of the environment that serves the application, until the block ends."""
        with tempfile.TemporaryFile("w+") as log:
            program = subprocess.Popen(
                [FOLDER / "bin" / command, *arguments],
                cwd=self.home,
                env=self.variables | variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            server = Server(f"http://127.0.0.1:{port}")
            try:
                deadline = time.monotonic() + START_SECONDS
                while (health := server.health()).get("status") != "ready":
                    assert program.poll() is None, "the program ended instead of serving"
                    assert time.monotonic() < deadline, health
                    time.sleep(0.5)
                yield server
            except BaseException:  # also a failed assertion, or Ctrl-C, wants the log
                log.seek(0)
                print(log.read())  # pytest shows it beside the failure
                raise
            finally:
                _end(program)


def _end(program: subprocess.Popen[bytes]) -> None:
    # The whole process group, with the program's children.
    os.killpg(program.pid, signal.SIGINT)
    try:
        program.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> PlainInstall:
    """The environment, with the code of this tree."""
    site = next(FOLDER.glob("lib/python3.*/site-packages"), None)
    for source in ("serve", "deployments", "ops"):
        for path in in_repository(source).rglob("*.py"):
            installed = site and site / path.relative_to(in_repository("."))
            if not installed or not installed.exists() or installed.read_text() != path.read_text():
                pytest.fail(f"{FOLDER.name} is not of this tree: make .venv-plain/.installed")
    return PlainInstall(tmp_path_factory.mktemp("home"))
