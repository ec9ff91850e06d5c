"""Ends what holds gigabytes after the last test that uses it."""

from collections.abc import Iterator

import pytest
from large_parts import LargeParts


@pytest.fixture(scope="session")
def large_parts(request: pytest.FixtureRequest) -> Iterator[LargeParts]:
    """Where a large part says how it is ended."""
    parts = LargeParts(request.session.items)
    yield parts
    parts.end_all()


@pytest.fixture(autouse=True)
def _large_parts_end(request: pytest.FixtureRequest, large_parts: LargeParts) -> Iterator[None]:
    yield
    large_parts.end_after(request.node.nodeid)
