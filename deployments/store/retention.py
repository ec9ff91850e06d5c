"""How much the store keeps, and what is deleted first."""

from dataclasses import dataclass

_FEWEST_ANSWERS = 100_000
_LARGEST_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """Bounds on what is kept. They hold after every transaction, except for `most_days` and
    `answer_hours`, which are enforced from time to time.

    Attributes:
        most_queries: how many past queries to keep; None is all. Queries without a score are
            deleted first, except the newest of them (a tenth of the bound), whose scores may still
            come; then those least recently touched.
        most_days: how long to keep a query after it was last touched; None is forever.
        answer_hours: how long feedback may come for an answer.
    """

    most_queries: int | None = None
    most_days: float | None = None
    answer_hours: float = 48.0

    @property
    def most_answers(self) -> int | None:
        """How many answers to keep for feedback: without texts, some 200 bytes each."""
        return None if self.most_queries is None else max(self.most_queries, _FEWEST_ANSWERS)

    @property
    def unscored(self) -> int:
        """How many queries without a score are kept, however many have one."""
        return (self.most_queries or 0) // 10


def excess(kept: int, most: int | None) -> int:
    """How many to delete so that no more than `most` are left, and some beyond that, so that not
    every write has to delete."""
    if most is None or kept <= most:
        return 0
    return kept - most + min(most // 100, _LARGEST_BATCH)
