"""What the scores of one key may weigh beside those of the others."""

from collections.abc import Mapping

_FEWEST_OTHERS = 19
_MOST = 2.0


class KeyBound:
    """Bounds the scores of a key that are learned: at most twice as many as the other keys have
    given on average, once there are 19 of them. So of n keys that score, none is more than about
    2 / n of what is learned, whatever it asks and sends.

    The bound is relative, so that it holds at any rate of feedback. Few keys belong to people who
    know each other, and may share the work unevenly; of a single one, everything counts.

    It counts the scores of answers that feedback may still come for, but none that an answer gets
    by itself. A key goes by its name; all callers without one are one key.
    """

    def __init__(self) -> None:
        self._scores: dict[str | None, int] = {}

    def restart(self, scores: Mapping[str | None, int]) -> None:
        """Counts from here: each key's scores as the store has them."""
        self._scores = dict(scores)

    def admits(self, key: str | None) -> bool:
        """Whether a further score of this key is learned."""
        own = self._scores.get(key, 0)
        others = len(self._scores) - (own > 0)
        if others < _FEWEST_OTHERS:
            return True
        return own * others < _MOST * (sum(self._scores.values()) - own)

    def count(self, key: str | None) -> None:
        """Counts a score of this key that is learned."""
        self._scores[key] = self._scores.get(key, 0) + 1

    def take_back(self, key: str | None) -> None:
        """Counts one score less: it was no further one after all."""
        left = self._scores.pop(key, 0) - 1
        if left > 0:  # a key without scores is none that scores
            self._scores[key] = left
