"""Figures as text."""

import math
from typing import Any

UNKNOWN = "–"


def shown(value: Any) -> str:
    """Three significant digits of a number that isn't whole, a dash for None."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) or (isinstance(value, float) and abs(value) >= 1000):
        return f"{value:,.0f}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def percent(share: float | None) -> str:
    """To a tenth, and never rounded up: 94.96 % must not look like a goal of 95 %."""
    if share is None:
        return UNKNOWN
    return f"{math.floor(share * 1000 + 1e-9) / 10:g} %"


def seconds(value: float | None) -> str:
    """With the unit."""
    return UNKNOWN if value is None else f"{shown(value)} s"
