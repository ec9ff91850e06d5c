"""What a server says as a terminal may show it, and numbers as people read them."""

import json
import re
from typing import Any

# All but line feed and tab: a terminal would obey them, and a model could make it.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """The text without characters that would control a terminal."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """The text, printable, in one line."""
    return printable(" ".join(text.split()))


def json_of(value: Any) -> str:
    """The value as JSON, with other letters than English ones as they are, printable."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def usd(cost: float | None) -> str:
    """An amount in USD with three digits; "-" if it is unknown."""
    return "-" if cost is None else f"${cost:.3g}"


def number(value: float | None, digits: int = 1) -> str:
    """A number with so many decimal places; "-" if it is unknown."""
    return "-" if value is None else f"{value:,.{digits}f}"
