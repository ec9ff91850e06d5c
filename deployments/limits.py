"""Limits on waits: `asyncio.timeout`, with one timer for all tasks of an event loop.

A request waits several times, and a stream for each chunk. A timer for each of these waits would
cost more than reading the chunk does, and nearly none of them ever fires.
"""

import asyncio
import time
from math import inf
from types import TracebackType
from weakref import WeakKeyDictionary

# Seconds by which a timer may fire early: uvloop's clock stands still while the loop works.
_EARLY_S = 0.002


class Limit:
    """A context manager that raises TimeoutError where its block has not ended in time.

    Like `asyncio.timeout`, it cancels what the block waits for, and a task that was cancelled by
    someone else stays cancelled. No other task may leave the block than the one that entered it.

    Args:
        until: when the block must have ended, by `time.monotonic`.
    """

    __slots__ = ("_alarm", "_cancelling", "_expired", "_task", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self._expired = False

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "only a task can wait"
        self._task, self._cancelling = task, task.cancelling()
        alarm = _alarms.get(loop)
        if alarm is None:
            alarm = _alarms[loop] = _Alarm()
        self._alarm = alarm
        alarm.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._expired:
            self._alarm.waiting.discard(self)
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Ends the block now."""
        if not self._expired:
            self._expired = True
            self._alarm.waiting.discard(self)
            self._task.cancel()


class _Alarm:
    """Rings for each limit of one event loop that is reached."""

    def __init__(self) -> None:
        self.waiting: set[Limit] = set()
        self._timer: asyncio.Handle | None = None
        self._set_for = inf

    def add(self, limit: Limit) -> None:
        self.waiting.add(limit)
        if limit.until < self._set_for:
            self._set(limit.until)

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._set_for = when
        loop, seconds = asyncio.get_running_loop(), when - time.monotonic()
        # A limit that has passed already comes before whatever else is ready, like `asyncio`'s.
        self._timer = (
            loop.call_later(seconds, self._ring) if seconds > 0 else loop.call_soon(self._ring)
        )

    def _ring(self) -> None:
        self._timer, self._set_for = None, inf
        past = time.monotonic() + _EARLY_S
        for limit in [limit for limit in self.waiting if limit.until <= past]:
            limit.expire()
        if self.waiting:
            self._set(min(limit.until for limit in self.waiting))


_alarms: WeakKeyDictionary[asyncio.AbstractEventLoop, _Alarm] = WeakKeyDictionary()
