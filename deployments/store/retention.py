"""How much the store keeps, and what goes first."""

from dataclasses import dataclass

_FEWEST_ANSWERS = 100_000
_LARGEST_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """Bounds on what is kept. They hold after every transaction, except `most_days` and
    `answer_hours`, which are looked at now and then.

    Attributes:
        most_queries: past queries; None is all. Those without a score go first, except the newest
            of them, whose scores may still come (a tenth of the bound); then the longest untouched.
        most_days: since a query was last touched; None is for ever.
        answer_hours: how long feedback may come for an answer.
    """

    most_queries: int | None = None
    most_days: float | None = None
    answer_hours: float = 48.0

    @property
    def most_answers(self) -> int | None:
        """Answers that feedback may come for, without their texts: some 200 bytes each."""
        return None if self.most_queries is None else max(self.most_queries, _FEWEST_ANSWERS)

    @property
    def unscored(self) -> int:
        """Queries without a score that stay, however many there are with one."""
        return (self.most_queries or 0) // 10


def excess(kept: int, most: int | None) -> int:
    """How many are to go, so that no more than `most` are left. A few more go at once, so that not
    every write has to delete."""
    if most is None or kept <= most:
        return 0
    return kept - most + min(most // 100, _LARGEST_BATCH)
