"""The one promise of every routing strategy: candidates in, the same in order of preference out."""

from collections.abc import Sequence
from typing import Protocol


class Strategy(Protocol):
    """Decides who is asked first. What it needs (counters, stores) it gets when it is made."""

    @property
    def name(self) -> str:
        """What configs, requests and answers call it."""
        ...

    async def rank(self, candidates: Sequence[str]) -> list[str]:
        """The names of the candidates, best first; each of them is running and able."""
        ...
