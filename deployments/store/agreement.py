"""Whether two answers say the same: compared exactly, after their form has been taken off."""

import hashlib
import re
from decimal import Context, Decimal, InvalidOperation

_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[$€£]?((\d{1,3}(,\d{3})+|\d+)(\.\d*)?|\.\d+)(e[+-]?\d{1,3})?%?")
_DIGITS = 28  # that a number is written with, or all that it has: none is rounded
_AROUND_NUMBERS = str.maketrans("", "", ",$€£")


def same_answer(one: str, other: str) -> bool:
    """Whether both answers are the same but for their form.

    The form is white space, case, a full stop at the end, how a number is written (1,000.0 is 1e3),
    and what surrounds a single block of code. An empty answer agrees with none.
    """
    first = _normalised(one)
    return bool(first) and first == _normalised(other)


def digest_of(answer: str) -> int | None:
    """A number that stands for what an answer says, 63 bits: `same_answer` answers have the same
    one, and others another. None for an empty answer, which agrees with none."""
    said = _normalised(answer)
    if not said:
        return None
    return int.from_bytes(hashlib.sha256(said.encode("utf-8", "replace")).digest()[:8], "big") >> 1


def _normalised(answer: str) -> str:
    blocks = _FENCE.findall(answer)
    if len(blocks) == 1:
        # In code, case and the white space that indents matter.
        return "\n".join(line.rstrip() for line in blocks[0].strip("\n").splitlines())
    text = " ".join(answer.split()).casefold().removesuffix(".")
    return _number(text) if _NUMBER.fullmatch(text) else text


def _number(text: str) -> str:
    """A number in one form; what is no number after all stays as it is."""
    unit = "%" if text.endswith("%") else ""
    try:
        value = Decimal(text.translate(_AROUND_NUMBERS).removesuffix("%"))
    except InvalidOperation:
        return text
    value = value.normalize(Context(prec=len(text)))
    digits = len(value.as_tuple().digits)
    return f"{Context(prec=max(digits, _DIGITS)).add(value, 0)}{unit}"
