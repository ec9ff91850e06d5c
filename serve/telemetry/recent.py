"""The latest requests: those of a router, and those of all routers together.

Without Ray or HTTP. What a request was is a dictionary of plain values, as the console shows it.
"""

import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

Record = Mapping[str, Any]

MOST_OF_ROUTER, MOST = 200, 1_000
_MOST_ROUTERS = 1_000


class Recent:
    """The latest requests of a router, numbered from 1. One thread adds, others may read."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Record]] = deque(maxlen=MOST_OF_ROUTER)
        self._count = 0

    def add(self, record: Record) -> None:
        """Adds one that has ended; takes a microsecond."""
        self._count += 1
        self._kept.append((self._count, record))

    def numbered(self) -> list[tuple[int, Record]]:
        """All that are kept, oldest first."""
        return list(self._kept)  # at once: no other thread runs meanwhile


class Gathered:
    """The latest requests of all routers, in the order in which they came to be known.

    Routers report all that they keep again and again, so that none gets lost with a report; each
    counts once.

    Attributes:
        life: differs for each object, whose numbers begin at 1.
        last: the number of the newest request.
    """

    def __init__(self) -> None:
        self.life = secrets.token_hex(4)
        self.last = 0
        self._kept: deque[tuple[int, Record]] = deque(maxlen=MOST)
        self._known: dict[str, int] = {}  # each router's newest

    def add(self, router: str, numbered: Iterable[tuple[int, Record]]) -> None:
        """Takes a router's report."""
        known = self._known.pop(router, 0)
        for number, record in numbered:
            if number > known:
                known = number
                self.last += 1
                self._kept.append((self.last, record))
        self._known[router] = known
        if len(self._known) > _MOST_ROUTERS:  # the one that has been silent for longest
            del self._known[next(iter(self._known))]

    def after(self, life: str, number: int) -> list[tuple[int, Record]]:
        """Those after a number, oldest first; all that are kept if it is of another life."""
        if life != self.life:
            return list(self._kept)
        return [each for each in self._kept if each[0] > number]
