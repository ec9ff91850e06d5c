"""The line that `make run` prints for each request, from what the router reports of it."""

import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ops.local.console import Console, rotate
from serve.http.middleware.access_log import SOCKET

_MAX_LINES_PER_S = 20
_MAX_MESSAGE_BYTES = 2**14
_MAX_LOG_BYTES = 50 * 2**20
_STOP = b""
_JOIN_S = 5


@contextmanager
def requests_shown(console: Console) -> Iterator[None]:
    """Prints the requests to routers that are started within the block, until it ends."""
    with (
        tempfile.TemporaryDirectory(prefix="llm-router-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        path = str(Path(folder) / "access")
        receiver.bind(path)
        os.environ[SOCKET] = path  # inherited by the processes that Ray starts
        thread = threading.Thread(target=_print_requests, args=(receiver, console), daemon=True)
        thread.start()
        try:
            yield
        finally:
            with suppress(OSError):  # the queue is full, or the thread has ended
                receiver.sendto(_STOP, path)
            thread.join(_JOIN_S)


def _print_requests(receiver: socket.socket, console: Console) -> None:
    receiver.settimeout(1)
    limit = RateLimit(_MAX_LINES_PER_S)
    while True:
        line = None
        with suppress(TimeoutError):
            message = receiver.recv(_MAX_MESSAGE_BYTES)
            if message == _STOP:
                return
            line = request_line(json.loads(message), console)
        for shown in limit.admit(line, time.monotonic()):
            console.line(shown)
        # Here, because requests are what makes the log grow.
        if console.log is not None:
            rotate(console.log, _MAX_LOG_BYTES)


class RateLimit:
    """Admits a number of lines each second, then says how many were left out."""

    def __init__(self, lines_per_s: int) -> None:
        self._lines_per_s = lines_per_s
        self._second = self._shown = self._left_out = 0

    def admit(self, line: str | None, now: float) -> list[str]:
        """The lines to print now; call it with None when no line came, so that counts are shown."""
        lines = []
        if int(now) != self._second:
            if self._left_out:
                lines.append(f"… and {self._left_out} more requests")
            self._second, self._shown, self._left_out = int(now), 0, 0
        if line is None:
            return lines
        if self._shown == self._lines_per_s:
            self._left_out += 1
            return lines
        self._shown += 1
        return [*lines, line]


def request_line(access: Mapping[str, Any], console: Console) -> str:
    """One line for a request: the model asked for, the one that answered, cost, duration."""
    asked = access.get("asked") or f"{access['method']} {access['path']}"
    model, error = access.get("model"), access.get("error")
    parts = [asked if model in (None, asked) else f"{asked} → {model}"]
    if error or access["status"] >= 400:
        failed = ["✗", str(access["status"]) if access["status"] >= 400 else "", error or ""]
        parts[0] += " " + console.red(" ".join(filter(None, [*failed, access.get("param")])))
    elif not access["whole"]:
        parts.append("client disconnected")
    if (cost := access.get("cost")) is not None:
        parts.append(f"${cost:.2g}")
    parts.append(_duration(access["seconds"]))
    if "quality" in access and "wanted" in access:
        parts.append(f"quality {_share(access['quality'])} (required {_share(access['wanted'])})")
    if access.get("attempts", 1) > 1:
        parts.append(f"{access['attempts']} attempts")
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _share(number: float) -> str:
    """A number from 0 to 1, as .96."""
    return f"{number:.2f}".removeprefix("0")
