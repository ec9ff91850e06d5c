"""Sequential routing: each set of candidates takes turns.

Source: https://docs.aios.foundation/aios-docs/aios-kernel/llm-cores/llm-routing
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from serve.routing.llm_configs import index_of, name_of
from serve.routing.strategy import Preview, Question, Ranking

# Callers choose their candidates, so the number of sets kept is bounded; the least recently used
# goes first.
MAX_SETS = 10_000


class Turns:
    """Counts turns for each key, from 0."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, int] = OrderedDict()

    def peek(self, key: str) -> int:
        """The number of calls of `next` for `key` so far."""
        return self._counts.get(key, 0)

    def next(self, key: str) -> int:
        """The number of earlier calls for `key`."""
        turn = self._counts.pop(key, 0)
        self._counts[key] = turn + 1
        if len(self._counts) > MAX_SETS:
            self._counts.popitem(last=False)
        return turn


def turn_key(candidates: Sequence[str]) -> str:
    """A key for a set of candidates, independent of their order."""
    return "\n".join(sorted(candidates))


def rotate(candidates: Sequence[str], turn: int) -> list[str]:
    """The candidates in order of preference, beginning with the one whose turn it is."""
    ordered = sorted(candidates)
    first = turn % len(ordered)
    return ordered[first:] + ordered[:first]


class SequentialStrategy:
    """Ranks candidates by turn.

    Args:
        next_turn: takes a turn; the number of earlier ones for a key.
        peek: that number without taking one; without it, previews begin with the first model.
    """

    def __init__(
        self,
        next_turn: Callable[[str], Awaitable[int]],
        peek: Callable[[str], Awaitable[int]] | None = None,
    ) -> None:
        self._next_turn, self._peek = next_turn, peek

    async def rank(self, question: Question) -> Ranking:
        """The available models, beginning with the one whose turn it is."""
        available = list(question.available)
        if len(available) == 1:
            return Ranking(available)
        return Ranking(rotate(available, await self._next_turn(turn_key(available))))

    async def preview(self, question: Question) -> Preview:
        """The same, without taking a turn."""
        available = list(question.available)
        turn = 0 if self._peek is None else await self._peek(turn_key(available))
        return Preview(Ranking(rotate(available, turn)))


class SequentialRouting:
    """Sequential routing without a server: indices into `llm_configs`, by turn.

    Args:
        llm_configs: the models, each with at least a "name".

    Raises:
        ValueError: no models, one without a name, or two with the same name.
    """

    def __init__(self, llm_configs: Sequence[Mapping[str, Any]]) -> None:
        self._index = index_of(llm_configs)
        self._turns = Turns()

    def get_model_idxs(
        self, selected_llms: Sequence[str | Mapping[str, Any]], n_queries: int = 1
    ) -> list[int]:
        """Distributes queries over the selected models, in the order of `llm_configs`.

        A call continues where the last one for the same selection stopped, whatever other
        selections were made in between.

        Args:
            selected_llms: names, or mappings with a "name".
            n_queries: how many queries to place.

        Returns:
            `n_queries` indices into `llm_configs`.

        Raises:
            ValueError: an empty selection, an unknown model, or a negative `n_queries`.
        """
        names = sorted(
            {name_of(llm) for llm in selected_llms}, key=lambda n: self._index.get(n, -1)
        )
        if not names:
            raise ValueError("selected_llms: select at least one model")
        if n_queries < 0:
            raise ValueError(f"n_queries must not be negative, but is {n_queries}")
        for name in names:
            if name not in self._index:
                known = ", ".join(self._index)
                raise ValueError(f"selected_llms: no model is called '{name}'; there are: {known}")
        key = turn_key(names)
        return [self._index[names[self._turns.next(key) % len(names)]] for _ in range(n_queries)]
