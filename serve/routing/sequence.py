"""The shared index of sequential routing: whose turn it is, for each set of candidates."""

from collections import OrderedDict

import ray

# Callers choose their candidate sets, so the number kept is bounded; the longest unused goes first.
MAX_SETS = 10_000


class Turns:
    """Counts turns for each key, from 0."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()

    def next(self, key: str) -> int:
        """The number of earlier calls for `key`."""
        turn = self._counts.pop(key, 0)
        self._counts[key] = turn + 1
        if len(self._counts) > MAX_SETS:
            self._counts.popitem(last=False)
        return turn


@ray.remote(num_cpus=0)
class Sequence(Turns):
    """`Turns` as an actor: one for the application, shared by all router replicas."""

    async def next(self, key: str) -> int:  # type: ignore[override]
        """See `Turns.next`."""
        return super().next(key)
