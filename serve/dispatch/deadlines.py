"""A request's own deadline, in seconds of `time.monotonic`."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deployments.errors import DeadlineExceeded


class Late(DeadlineExceeded):
    """The request's own deadline has passed: another model won't help, and no model is at fault."""

    retryable = False


def late() -> Late:
    """The error for a request whose own deadline has passed."""
    return Late("not answered within the request's time limit")


def left(deadline: float) -> float:
    """Seconds until a deadline."""
    return deadline - time.monotonic()


@asynccontextmanager
async def within(deadline: float) -> AsyncIterator[None]:
    """Raises `Late` if the block has not ended by the deadline."""
    try:
        async with asyncio.timeout(left(deadline)):
            yield
    except TimeoutError:
        raise late() from None
