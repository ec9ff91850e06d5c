"""A request's own deadline, in seconds of `time.monotonic`."""

import time
from types import TracebackType

from deployments.errors import DeadlineExceeded
from deployments.limits import Limit


class Late(DeadlineExceeded):
    """The request's own deadline has passed: another model won't help, and no model is at fault."""

    retryable = False


def late(message: str = "not answered within the request's time limit") -> Late:
    """The error for a request whose own deadline has passed."""
    return Late(message)


def left(deadline: float) -> float:
    """Seconds until a deadline."""
    return deadline - time.monotonic()


class within(Limit):  # noqa: N801 - like `asyncio.timeout`
    """An asynchronous context manager that raises `Late` if its block has not ended by a
    deadline."""

    __slots__ = ()

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.__exit__(kind, error, traceback)
        except TimeoutError:
            raise late() from None
