"""Totals of what was observed, as the tables `outcomes` and `lengths` keep them."""

from dataclasses import dataclass

from deployments.store.observations import Observation

# The key of a row of `outcomes`: query number, model, source and the model's identity.
Place = tuple[int, str, str, str]
KEY = ("query_id", "model", "source", "identity")

# The columns of `outcomes` that are added up, and the fields of `Sums`.
SUMS = ("quality_sum", "scored", "tokens_sum", "counted", "seconds_sum", "timed", "answers")

# The same of `lengths`: model, the model's identity and shape.
LengthPlace = tuple[str, str, str]
LENGTH_KEY = ("model", "identity", "shape")
LENGTH_SUMS = ("tokens_sum", "counted", "seconds_sum", "timed")


@dataclass(slots=True)
class Sums:
    """What to add to one row; `replace` drops what a row of `outcomes` held before, and `said`
    takes its place. `scored_at` is when the latest score was given, in Unix seconds."""

    replace: bool = False
    quality_sum: float = 0.0
    scored: int = 0
    tokens_sum: float = 0.0
    counted: int = 0
    seconds_sum: float = 0.0
    timed: int = 0
    answers: int = 0
    said: int | None = None
    scored_at: float | None = None

    def add(self, seen: Observation, now: float) -> None:
        """Adds what an observation says of its query, at a time in Unix seconds."""
        count = int(seen.count)
        self.answers += count
        self.said = self.said if seen.said is None else seen.said
        if seen.quality is not None:
            self.quality_sum += float(seen.quality) * count
            self.scored += count
            self._date(now if seen.scored_at is None else min(seen.scored_at, now))
        if seen.shape == "text":
            self.add_length(seen)

    def add_length(self, seen: Observation) -> None:
        """Adds the length and the time of an observation."""
        count = int(seen.count)
        if seen.output_tokens is not None:
            self.tokens_sum += float(seen.output_tokens) * count
            self.counted += count
        if seen.seconds is not None:
            self.seconds_sum += float(seen.seconds) * count
            self.timed += count

    def rescore(self, replaced: float | None, score: float, now: float) -> None:
        """Adds a score, given at a time in Unix seconds, in place of the one that the answer had
        before, if any."""
        self.quality_sum += float(score) - (replaced or 0.0)
        self.scored += replaced is None
        self._date(now)

    def _date(self, at: float) -> None:
        self.scored_at = float(at) if self.scored_at is None else max(self.scored_at, float(at))
