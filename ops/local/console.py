"""What `make run` shows: a line for each step, bars for what takes long, a line for each request.

Everything else that this process and Ray write to its output goes into a file.
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
_LONGEST_STAGE = 60
_RED = "\x1b[31m{}\x1b[0m"


class Console:
    """Lines for people, and where they sit at a terminal, bars and colour. Threads may share it.

    Args:
        stream: where to write.
        log: the file that Ray's own lines go into; None if they are shown as well.
    """

    def __init__(self, stream: TextIO, log: Path | None = None) -> None:
        self._stream = stream
        self.log = log
        # Ray's lines would tear bars apart.
        self._at_terminal = stream.isatty() and log is not None
        self._stage = ""
        self._bar: tqdm[Any] | None = None
        self._lock = threading.RLock()

    def line(self, text: str) -> None:
        """A line, below whatever a bar shows."""
        with self._lock:
            self._close_bar()
            print(text, file=self._stream, flush=True)

    def progress(self, stage: str, done: int | None = None, total: int | None = None) -> None:
        """How far a stage is. Without a terminal, a line when it begins."""
        with self._lock:
            began, self._stage = stage != self._stage, stage
            if self._at_terminal:
                self._show_bar(stage, done or 0, total, anew=began)
            elif began:
                self.line(f"  {stage}")

    def red(self, text: str) -> str:
        """`text` in red, at a terminal."""
        return _RED.format(text) if self._stream.isatty() else text

    def _show_bar(self, stage: str, done: int, total: int | None, *, anew: bool) -> None:
        if anew or self._bar is None or self._bar.total != total:
            self._close_bar()
            bar_format = _NO_TOTAL if total is None else _BAR
            self._bar = tqdm(
                desc=shorten(stage, _LONGEST_STAGE, placeholder=" …"),
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


@contextmanager
def open_console(log: Path) -> Iterator[Console]:
    """The console until the block ends; the environment variable VERBOSE=1 shows Ray's lines, too.

    Args:
        log: the file for Ray's lines. One that is there is overwritten.
    """
    if os.environ.get("VERBOSE", "0") not in ("", "0"):
        yield Console(sys.stdout)
        return
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _diverted(log) as stream:
        yield Console(stream, log)


def bound(log: Path, most_bytes: int) -> None:
    """Starts the file anew once it is longer than `most_bytes`; one older part is kept."""
    if os.fstat(1).st_size > most_bytes:
        with suppress(FileNotFoundError):  # somebody has deleted it
            log.replace(log.with_suffix(".old.log"))
        _divert(log)


@contextmanager
def _diverted(log: Path) -> Iterator[TextIO]:
    """Diverts the file descriptors 1 and 2 to a file, and gives what the first one was.

    The descriptors, since Ray's C++ part writes to them without asking Python.
    """
    _flush()
    before = [os.dup(descriptor) for descriptor in (1, 2)]
    _divert(log)
    try:
        with open(os.dup(before[0]), "w", encoding=sys.stdout.encoding, errors="replace") as stream:
            yield stream
    finally:
        _flush()
        for descriptor, old in zip((1, 2), before, strict=True):
            os.dup2(old, descriptor)
            os.close(old)


def _divert(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
