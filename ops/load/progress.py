"""What the driving process says of itself while it runs: lines of JSON on its standard output."""

import json
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ops.load.records import Record


@dataclass
class Progress:
    """Counts since the beginning, and what was seen since the last line."""

    _due: int = 0
    _ended: int = 0
    _errors: int = 0
    _late: list[float] = field(default_factory=list)
    _firsts: list[float] = field(default_factory=list)
    _last: tuple[float, int, int] = 0.0, 0, 0

    def begin(self, unix_s: float) -> None:
        """Says when second 0 is."""
        _say({"began": unix_s})

    def sent(self, record: Record) -> None:
        """A request is being sent."""
        self._due += 1
        self._late.append(record.sent - record.planned.at)

    def dropped(self) -> None:
        """A request is not sent; its record follows."""
        self._due += 1

    def ended(self, record: Record) -> None:
        """A request has its record."""
        self._ended += 1
        self._errors += record.error is not None
        if record.first is not None:
            self._firsts.append(record.first - record.planned.at)

    def show(self, now: float) -> None:
        """Says how it goes; rates and times are those since the last line."""
        before, due, ended = self._last
        seconds = max(now - before, 1e-9)
        _say(
            {
                "at": now,
                "offered_rps": (self._due - due) / seconds,
                "done_rps": (self._ended - ended) / seconds,
                "in_flight": self._due - self._ended,
                "errors": self._errors,
                "ttft_p50_s": median(self._firsts) if self._firsts else None,
            }
        )
        self._last = now, self._due, self._ended
        self._firsts.clear()

    def end(self, now: float, sent_until: float, *, interrupted: bool) -> None:
        """Says how it was, and when sending stopped."""
        late = sorted(self._late)
        _say(
            {
                "ended": now,
                "interrupted": interrupted,
                "sent_until": sent_until,
                "late_p99_s": late[int(len(late) * 0.99)] if late else 0.0,
            }
        )


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)
