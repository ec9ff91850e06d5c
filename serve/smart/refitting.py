"""How many new scores are worth a new fit of the predictor."""

_SHARE, _FEWEST = 0.1, 50  # of the scored queries; scores
_FADED = 0.1  # half-lives; after these, what was fitted is out of date
_DAY_S = 86_400.0


def new_scores(scored: int, since_s: float, half_life_days: float | None) -> float:
    """The fewest new scores with which the predictor is fitted again: a tenth of the scored
    queries, or 50. Where scores age, 50 are enough after a tenth of their half-life: of a large
    store with many old scores, a tenth would be more than all that still count.

    Args:
        scored: how many past queries have a score.
        since_s: seconds since the last fit.
        half_life_days: in which scores count half as much; None if they don't age.
    """
    if half_life_days is not None and since_s >= _FADED * half_life_days * _DAY_S:
        return _FEWEST
    return max(_FEWEST, _SHARE * scored)
