"""The terminal of `make run`: a line for each step and each request, bars for what takes long.

Everything else that this process and Ray print goes to a log file.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten
from typing import Any, TextIO

from tqdm import tqdm

_BAR = "  {desc}: {bar:30} {n_fmt} of {total_fmt}, {elapsed}"
_NO_TOTAL = "  {desc}, {elapsed}"
_MAX_STAGE_CHARACTERS = 60
_RED = "\x1b[31m{}\x1b[0m"


class Console:
    """Prints lines, and on a terminal also bars and colour. Threads may share it.

    Args:
        stream: where to print.
        log: the file that receives Ray's output; None if that is printed, too.
    """

    def __init__(self, stream: TextIO, log: Path | None = None) -> None:
        self._stream = stream
        self.log = log
        # Ray's lines would break the bars.
        self._show_bars = stream.isatty() and log is not None
        self._stage = ""
        self._bar: tqdm[Any] | None = None
        self._lock = threading.RLock()

    def line(self, text: str) -> None:
        """Prints a line, replacing the bar if there is one."""
        with self._lock:
            self._close_bar()
            print(text, file=self._stream, flush=True)

    def progress(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        """Shows the progress of a stage; without a terminal, one line when the stage begins."""
        with self._lock:
            began, self._stage = stage != self._stage, stage
            if self._show_bars:
                self._show_bar(stage, done or 0, total, restart=began)
            elif began:
                self.line(f"  {stage}")

    def red(self, text: str) -> str:
        """`text` in red, on a terminal."""
        return _RED.format(text) if self._stream.isatty() else text

    def _show_bar(self, stage: str, done: int, total: int | None, *, restart: bool) -> None:
        if restart or self._bar is None or self._bar.total != total:
            self._close_bar()
            bar_format = _NO_TOTAL if total is None else _BAR
            self._bar = tqdm(
                desc=shorten(stage, _MAX_STAGE_CHARACTERS, placeholder=" …"),
                total=total,
                file=self._stream,
                bar_format=bar_format,
                leave=False,
            )
        self._bar.n = done
        self._bar.refresh()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def log_file(port: int) -> Path:
    """The file for Ray's output: one for each user and port."""
    state_home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state_home) / "llm-cores-on-ray-serve" / f"ray-{port}.log"


@contextmanager
def open_console(log: Path) -> Iterator[Console]:
    """A console for the duration of the block; VERBOSE=1 in the environment prints Ray's output.

    Args:
        log: the file for Ray's output; an existing one is overwritten.
    """
    if os.environ.get("VERBOSE", "0") not in ("", "0"):
        yield Console(sys.stdout)
        return
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _output_redirected(log) as stream:
        yield Console(stream, log)


def rotate(log: Path, max_bytes: int) -> None:
    """Starts a new log file once the current one is longer than `max_bytes`; keeps one old file."""
    if os.fstat(1).st_size > max_bytes:
        with suppress(FileNotFoundError):  # it was deleted
            log.replace(log.with_suffix(".old.log"))
        _redirect(log)


@contextmanager
def _output_redirected(log: Path) -> Iterator[TextIO]:
    """Redirects file descriptors 1 and 2 to a file; yields a stream to the original stdout.

    The descriptors rather than `sys.stdout`, since Ray's C++ code writes to them directly.
    """
    _flush()
    originals = [os.dup(descriptor) for descriptor in (1, 2)]
    _redirect(log)
    try:
        stdout = os.dup(originals[0])
        with open(stdout, "w", encoding=sys.stdout.encoding, errors="replace") as stream:
            yield stream
    finally:
        _flush()
        for descriptor, original in zip((1, 2), originals, strict=True):
            os.dup2(original, descriptor)
            os.close(original)


def _redirect(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
