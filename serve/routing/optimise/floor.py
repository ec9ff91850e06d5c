"""Ranks the models for one request that must reach a quality by itself, not as part of a mean."""

import numpy as np

from serve.routing.arrays import Booleans, Floats, Integers


def above_floor(quality: Floats, cost: Floats, floor: float, allowed: Booleans) -> Integers:
    """The columns of the allowed models, best first.

    Models that reach the floor come first, the cheapest of them leading; then the others, the best
    of them leading.

    Args:
        quality: (m,) predicted qualities, 0 to 1.
        cost: (m,) predicted costs in USD.
        floor: the quality to reach, 0 to 1.
        allowed: (m,) which models may answer.

    Raises:
        ValueError: no model is allowed.
    """
    if not allowed.any():
        raise ValueError("the request has no candidate model")
    enough = quality >= floor
    order: Integers = np.lexsort((np.where(enough, cost, -quality), ~enough))
    return order[allowed[order]]
