"""An attempt, which is a request to the provider, and the steps of the response to it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass
class Attempt:
    """A request that the provider received.

    Attributes:
        model: the model in the request.
        body: the whole request.
        number: counts the attempts at this model, from 1.
        since: seconds since the first attempt at this model.
        at: when it arrived, by `time.monotonic`.
        outcome: the status; "cut" or "reset"; or "left" if the client disconnected. Empty while it
            is in flight.
        ended: when it ended, by `time.monotonic`.
    """

    model: str
    body: dict[str, Any]
    number: int
    since: float
    at: float
    outcome: str = ""
    ended: float | None = None

    def end(self, outcome: str) -> None:
        """Records the end; only the first call counts."""
        if self.ended is None:
            self.outcome, self.ended = outcome, time.monotonic()


@dataclass(frozen=True)
class Refusal:
    """An error response instead of an answer."""

    status: int
    error: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


class Break(Enum):
    """How the connection ends before the answer does."""

    CUT = "cut"  # closed without the final chunk
    RESET = "reset"


# An event of the stream, a pause in seconds, or an abnormal end.
Step = str | float | Refusal | Break

HEADERS = ""  # sends the response's headers and no event yet
