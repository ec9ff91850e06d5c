"""The lines that `make run` shows of requests, from what the router tells of each."""

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

from ops.local.console import Console, bound
from serve.http.access_log import SOCKET

_MOST_A_SECOND = 20
_LONGEST = 2**14  # bytes of what is told of a request
_END = b""
_LOG_BYTES = 50 * 2**20
_JOIN_S = 5


@contextmanager
def requests_shown(console: Console) -> Iterator[None]:
    """Shows the requests to routers that are started in this block, until it ends."""
    with (
        tempfile.TemporaryDirectory(prefix="llm-router-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        path = str(Path(folder) / "access")
        told.bind(path)
        os.environ[SOCKET] = path  # what Ray starts inherits it
        showing = threading.Thread(target=_show, args=(told, console), daemon=True)
        showing.start()
        try:
            yield
        finally:
            with suppress(OSError):  # its queue is full, or it has ended
                told.sendto(_END, path)
            showing.join(_JOIN_S)


def _show(told: socket.socket, console: Console) -> None:
    told.settimeout(1)
    limit = Limit(_MOST_A_SECOND)
    while True:
        line = None
        with suppress(TimeoutError):
            message = told.recv(_LONGEST)
            if message == _END:
                return
            line = request_line(json.loads(message), console)
        for shown in limit.pass_on(line, time.monotonic()):
            console.line(shown)
        # Here, since requests are what makes it long.
        if console.log is not None:
            bound(console.log, _LOG_BYTES)


class Limit:
    """Lets so many lines through in a second, then says how many it left out."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = self._shown = self._left_out = 0

    def pass_on(self, line: str | None, now: float) -> list[str]:
        """What is to be shown now; None is a look at the clock."""
        lines = []
        if int(now) != self._second:
            if self._left_out:
                lines.append(f"… and {self._left_out} more requests")
            self._second, self._shown, self._left_out = int(now), 0, 0
        if line is None:
            return lines
        if self._shown == self._most:
            self._left_out += 1
            return lines
        self._shown += 1
        return [*lines, line]


def request_line(access: Mapping[str, Any], console: Console) -> str:
    """One request in one line: what was asked for, who answered, what it cost, how long it took."""
    asked = access.get("asked") or f"{access['method']} {access['path']}"
    model, error = access.get("model"), access.get("error")
    parts = [asked if model in (None, asked) else f"{asked} → {model}"]
    if error or access["status"] >= 400:
        failed = ["✗", str(access["status"]) if access["status"] >= 400 else "", error or ""]
        parts[0] += " " + console.red(" ".join(filter(None, [*failed, access.get("param")])))
    elif not access["whole"]:
        parts.append("the caller left")
    if (cost := access.get("cost")) is not None:
        parts.append(f"${cost:.2g}")
    parts.append(_duration(access["seconds"]))
    if "quality" in access and "wanted" in access:
        parts.append(f"{_share(access['quality'])} of {_share(access['wanted'])} wanted")
    if access.get("attempts", 1) > 1:
        parts.append(f"{access['attempts']} attempts")
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _share(number: float) -> str:
    """From 0 to 1, as .96."""
    return f"{number:.2f}".removeprefix("0")
