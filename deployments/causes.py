"""What lies behind an error that libraries have wrapped in errors of their own."""

import os
import ssl
from collections.abc import Iterator


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that led to it, nearest first; of a group, each member."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        cause = left.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        left.append(cause.__cause__ or cause.__context__)
        if isinstance(cause, BaseExceptionGroup):
            left.extend(cause.exceptions)


def system_reason(error: BaseException) -> str | None:
    """Why a connection failed, as the operating system says it ("Connection refused"); None where
    it says nothing."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno:
            # The numbers of TLS and of name resolution are not the operating system's.
            own = cause.errno > 0 and not isinstance(cause, ssl.SSLError)
            return os.strerror(cause.errno) if own else str(cause.strerror)
    return None
