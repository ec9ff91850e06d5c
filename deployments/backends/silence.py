"""Bounds each wait of a stream by one timer, where `asyncio.timeout` would take one for each."""

import asyncio
from math import inf
from types import TracebackType
from typing import Self


class Silence:
    """A limit for many waits, one after the other; the time between them doesn't count.

    `with silence.at_most(seconds):` raises a TimeoutError like `asyncio.timeout`, but only moves a
    deadline. The timer looks at the deadline when it fires, and is set anew only if that is later.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._fires = inf  # when the timer does, by the loop's clock
        self._seconds = inf
        self._deadline = inf
        self._waiting: asyncio.Task[object] | None = None
        self._cancelled_before = 0
        self._is_over = False

    def at_most(self, seconds: float) -> Self:
        """The limit for the wait within the `with` statement that this is written in."""
        self._seconds = seconds
        return self

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # the loop runs only tasks
        self._waiting, self._cancelled_before, self._is_over = task, task.cancelling(), False
        self._deadline = self._loop.time() + self._seconds
        if self._timer is None or self._deadline < self._fires:
            self._set()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._waiting = self._waiting, None
        if self._is_over and task is not None:
            # If somebody else has cancelled the task, too, it stays cancelled.
            ours_only = task.uncancel() <= self._cancelled_before
            if ours_only and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def _set(self) -> None:
        self.close()
        self._fires = self._deadline
        self._timer = self._loop.call_at(self._fires, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None:
            return  # the next wait sets it
        if self._loop.time() < self._deadline:
            self._set()
        else:
            self._is_over = True
            self._waiting.cancel()
