"""Notices that a model has begun to answer better or worse than it did: two sums for each model.

Each score moves the sums by the logarithm of how much likelier it is if the model's odds of a good
answer have changed by a factor of e^±.45, which is .1 of a quality around .65. A sum never falls
below 0, and one above 8 is a change. What was expected of a score is its prediction, corrected by
how wrong the model's predictions have been since the last change: so neither harder queries nor a
biased predictor looks like a change.

Source: Page, "Continuous inspection schemes", Biometrika 41 (1954). Simulated with scores of 0 and
1, there is less than one false alarm in 100,000 scores, and half of all drops by .1 are noticed
within 200 (of a quality of .9) to 350 scores (of .5). No test does much better: at one false alarm
in n scores, the mean delay is at least about log(n) / KL, where KL is the divergence of the two
distributions of a score (Lorden, Annals of Mathematical Statistics 42, 1971).
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from deployments.store.observations import Scored

_SHIFT = 0.45  # of the log odds
_ALARM = 8.0
_FIRST = 200  # scores by which predictions are corrected before a change can be noticed
_MOST = 2000.0  # scores that the correction remembers
_BELIEF = 50.0  # scores; the weight of the prior belief that predictions are unbiased
_SUREST = 0.02  # no answer is expected to be more certainly wrong, or right


@dataclass(frozen=True, slots=True)
class Change:
    """A model's quality has changed.

    Attributes:
        model: its name.
        difference: by how much its scores exceeded what was expected of them, on average over the
            scores that told of the change; negative for a drop.
        scores: how many those were.
        at: when it was noticed, in unix seconds.
    """

    model: str
    difference: float
    scores: int
    at: float

    def __str__(self) -> str:
        way = "worse" if self.difference < 0 else "better"
        return (
            f"model '{self.model}' answers {way} than it did: its last {self.scores} scores were "
            f"{abs(self.difference):.2f} {'below' if way == 'worse' else 'above'} what was expected"
        )


@dataclass(slots=True)
class _Sum:
    """The evidence of a change in one direction, and the scores that it comes from."""

    shift: float
    evidence: float = 0.0
    scores: int = 0
    excess: float = 0.0

    def add(self, score: float, expected: float) -> None:
        likelier = self.shift * score - math.log1p(expected * math.expm1(self.shift))
        if self.evidence + likelier <= 0:
            self.evidence, self.scores, self.excess = 0.0, 0, 0.0
            return
        self.evidence += likelier
        self.scores += 1
        self.excess += score - expected


@dataclass(slots=True)
class _Watched:
    """One model since its last change."""

    worse: _Sum = field(default_factory=lambda: _Sum(-_SHIFT))
    better: _Sum = field(default_factory=lambda: _Sum(_SHIFT))
    scores: float = 0.0
    excess: float = 0.0  # of scores over predictions

    def add(self, predicted: float, score: float) -> _Sum | None:
        """Takes a score; returns the sum that tells of a change."""
        found = None
        if self.scores >= _FIRST:
            bias = self.excess / (self.scores + _BELIEF)
            expected = min(max(predicted + bias, _SUREST), 1 - _SUREST)
            for each in (self.worse, self.better):
                each.add(score, expected)
                if each.evidence > _ALARM:
                    found = each
        kept = 1.0 if self.scores < _MOST else 1 - 1 / _MOST
        self.scores = kept * self.scores + 1
        self.excess = kept * self.excess + score - predicted
        return found


class Changes:
    """Watches the scores of all models. Nothing is kept over a restart.

    Args:
        clock: unix seconds.

    Attributes:
        latest: the last change of each model that had one, by name.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self.latest: dict[str, Change] = {}

    def score(self, scored: Scored, score: float) -> Change | None:
        """Takes the first score of an answer, if its quality was predicted.

        Args:
            scored: the answer.
            score: 0 to 1.

        Returns:
            The change that this score makes certain enough; what comes later is compared with the
            model as it is from then on.
        """
        if scored.predicted is None or scored.replaced is not None:
            return None
        watched = self._watched.setdefault(scored.model, _Watched())
        found = watched.add(scored.predicted, score)
        if found is None:
            return None
        difference = found.excess / found.scores
        change = Change(scored.model, difference, found.scores, self._clock())
        self.latest[change.model] = change
        del self._watched[change.model]
        return change
