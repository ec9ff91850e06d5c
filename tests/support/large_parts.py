"""Shared parts that hold gigabytes: each ends with the last test that uses it, not with the run."""

from collections.abc import Callable

import pytest

# In the order in which their tests run.
LARGE = ("smart", "vllm_server", "every_kind", "engines")


def used_by(item: pytest.Item) -> set[str]:
    """The fixtures of a test, and what its marker `uses` names."""
    declared = {part for mark in item.iter_markers("uses") for part in mark.args}
    return {*declared, *getattr(item, "fixturenames", ())}


def latest_part(item: pytest.Item) -> int:
    """The place in `LARGE` of the last one that a test uses; -1 if it uses none."""
    return max((LARGE.index(part) for part in used_by(item) if part in LARGE), default=-1)


class LargeParts:
    """Ends each part after the last test of a run that uses it.

    Args:
        items: the run's tests, in their order.
    """

    def __init__(self, items: list[pytest.Item]) -> None:
        self._last = {part: item.nodeid for item in items for part in used_by(item) & {*LARGE}}
        self._ends: dict[str, Callable[[], None]] = {}

    def started(self, part: str, end: Callable[[], None]) -> None:
        """Has `end` called when the part is no longer needed."""
        self._ends[part] = end

    def end_after(self, nodeid: str) -> None:
        """Ends the parts that this test was the last to use."""
        for part in [part for part in self._ends if self._last.get(part) == nodeid]:
            self._ends.pop(part)()

    def end_all(self) -> None:
        """Ends what is left."""
        while self._ends:
            self._ends.popitem()[1]()
