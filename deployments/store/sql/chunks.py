"""Long lists in pieces that one statement can take."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

CHUNK = 500  # values in one statement; SQLite takes some 32,000, PostgreSQL twice that

_Item = TypeVar("_Item")


def chunks(items: Sequence[_Item], size: int = CHUNK) -> Iterator[Sequence[_Item]]:
    """The items in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
