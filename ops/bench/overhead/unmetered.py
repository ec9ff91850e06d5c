"""Leaves out all metrics in a process: what they cost is the difference.

Only for this benchmark, so it replaces parts of the service rather than being an option of it.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

# What Ray runs first in each of its workers.
SETUP_HOOK = "ops.bench.overhead.unmetered.leave_out"


class _Nothing:
    """Counts and measures nothing, as any instrument, call or answer."""

    def __init__(self, *args: Any) -> None: ...

    def _nothing(self, *args: Any, **more: Any) -> None: ...

    inc = dec = set = observe = set_function = close = _nothing
    accepted = begun = end = _nothing

    @contextmanager
    def time(self) -> Iterator[None]:
        yield

    track_inprogress = time


def leave_out() -> None:
    """Replaces what records and reports; call it before any replica is made."""
    import deployments.replicas.model
    import serve.core
    import serve.dispatch.calls
    from deployments.telemetry import reporting
    from deployments.telemetry.instruments import Instrument

    nothing = _Nothing()
    replaced: list[tuple[Any, str, Any]] = [
        (Instrument, "labels", lambda self, *values: nothing),
        (reporting, "Reporter", _Nothing),
        (serve.dispatch.calls, "MeasuredCall", _Nothing),
        (serve.core, "MeasuredAnswer", _Nothing),
        (deployments.replicas.model, "measured", _unchanged),
    ]
    for place, name, by in replaced:
        assert hasattr(place, name), name
        setattr(place, name, by)


def _unchanged(chunks: AsyncGenerator[Any, None], *about: Any) -> AsyncGenerator[Any, None]:
    return chunks
