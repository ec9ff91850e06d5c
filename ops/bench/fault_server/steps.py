"""What comes in, an attempt, and the steps that the provider answers it with."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass
class Attempt:
    """One request that came in.

    Attributes:
        model: that it asks for.
        body: all of it.
        number: of the attempts at this model, from 1.
        since: seconds since the first of them.
        at: when it came, by `time.monotonic`.
        outcome: the status; "cut" or "reset"; or "left" where the client was the one to go. Empty
            while it goes on.
        ended: when it was over, by `time.monotonic`.
    """

    model: str
    body: dict[str, Any]
    number: int
    since: float
    at: float
    outcome: str = ""
    ended: float | None = None

    def end(self, outcome: str) -> None:
        """It is over; only the first call counts."""
        if self.ended is None:
            self.outcome, self.ended = outcome, time.monotonic()


@dataclass(frozen=True)
class Refusal:
    """An error instead of an answer."""

    status: int
    error: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Break(Enum):
    """How a connection ends before its answer does."""

    CUT = "cut"  # closed: no final chunk
    RESET = "reset"


# An event of the stream, a pause in seconds, or an end.
Step = str | float | Refusal | Break

HEADERS = ""  # the response begins; nothing is said yet
