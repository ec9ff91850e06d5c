"""How scores age: the older one is, the less it counts."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deployments.store.evidence import Floats32

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Ageing:
    """How much scores count at one moment: half as much for each half-life since they were given.

    Attributes:
        half_life_s: in seconds.
        now: that moment, in Unix seconds.
    """

    half_life_s: float
    now: float

    @classmethod
    def at_present(cls, half_life_days: float | None) -> "Ageing | None":
        """As of now; None if nothing ages."""
        return None if half_life_days is None else cls(half_life_days * _DAY_S, time.time())

    def freshness(self, scored_at: npt.NDArray[np.number[Any]]) -> Floats32:
        """How much scores of these times, in Unix seconds, count: 1 now, .5 a half-life ago, and 0
        where that is too little for a float. One from a clock that is ahead counts as of now."""
        age = np.maximum(self.now - scored_at.astype(np.float64), 0.0)
        return np.exp2(-age / self.half_life_s).astype(np.float32)
