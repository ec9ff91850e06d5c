"""A line of `requests.jsonl`: when a request was sent, and what came of it."""

from dataclasses import asdict, dataclass
from typing import Any

from ops.load.replies import Said
from ops.load.schedule import Planned

DROPPED = "dropped"
"""The error of a request that was not sent, since too many were in flight."""


@dataclass(slots=True)
class Record:
    """A request that was due; times are in seconds after the beginning.

    Attributes:
        planned: the request.
        sent: when it was sent; if it was dropped, when it was due.
        said: what its response says of itself.
        first: when the first token of a stream arrived.
        ended: when the response ended, or was given up.
        status: the HTTP status, if there was a response.
        error: what went wrong; None if it is a whole answer: an error's `code`, "timeout",
            "connection", "broken_stream", "broken_answer", "interrupted" by who ran the test, or
            `DROPPED`.
    """

    planned: Planned
    sent: float
    said: Said
    first: float | None = None
    ended: float = 0.0
    status: int | None = None
    error: str | None = None

    def line(self) -> dict[str, Any]:
        """As it is written."""
        planned, said = self.planned, asdict(self.said)
        del said["error"], said["done"]
        return {
            "at": round(planned.at, 4),
            "sent": round(self.sent, 4),
            "first": None if self.first is None else round(self.first, 4),
            "ended": round(self.ended, 4),
            "stage": planned.stage,
            "kind": planned.kind,
            "stream": planned.stream,
            "asked": planned.model,
            "status": self.status,
            "error": self.error,
            **said,
        }
