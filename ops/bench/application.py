"""The application as `make run` serves it, in processes of its own, for benchmarks over HTTP."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from ops.bench.processes import stop
from ops.ports import free_port

_START_S = 300.0

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@contextmanager
def running(
    config: Mapping[str, Any],
    log: Path,
    environment: Mapping[str, str] | None = None,
    program: str = "ops.run",
) -> Iterator[str]:
    """Runs the application until the block ends; yields its URL once all models are available.

    Its default store is a fresh one, deleted afterwards: the user's learns nothing from it.

    It also ends if this process is killed: call it in a thread that outlasts the block. If it
    doesn't end within a minute, it is killed, with all that it started.

    Args:
        config: as for `serve.app.build`.
        log: a file for what the application prints.
        environment: variables for its processes, beside those of this one.
        program: the module that serves it.

    Raises:
        RuntimeError: it did not start; `log` says why.
    """
    port = free_port()
    # A short path, since Ray creates sockets in it.
    temporary = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with temporary as folder, log.open("wb") as output:
        file = Path(folder) / "config.json"  # JSON is YAML
        file.write_text(json.dumps(config))
        process = subprocess.Popen(
            [sys.executable, "-m", program, "--config", str(file), "--port", str(port)],
            env={
                **os.environ,
                "XDG_STATE_HOME": folder,
                **(environment or {}),
                "RAY_TMPDIR": folder,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_until_ready(url, process, log)
            yield url
        finally:
            stop(process)


def _end_with_parent() -> None:
    """Has the kernel send SIGTERM to this process when the thread that started it is gone."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if (
                httpx.get(f"{url}/health/ready", timeout=5, trust_env=False).json()["status"]
                == "ready"
            ):
                return
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        time.sleep(0.5)
    raise RuntimeError(f"the application did not start; see {log}")
