"""The causes behind an error that libraries have wrapped in errors of their own."""

import os
import ssl
from collections.abc import Iterator


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and those that caused it, nearest first; of a group, every member."""
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
    """Why a connection failed, in the operating system's words ("Connection refused"); None if it
    gives no reason."""
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno:
            # TLS and name resolution have error numbers of their own.
            own = cause.errno > 0 and not isinstance(cause, ssl.SSLError)
            return os.strerror(cause.errno) if own else str(cause.strerror)
    return None
