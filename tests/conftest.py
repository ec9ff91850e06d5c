"""Fixtures that several test files share: each real part is started once."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

pytest_plugins = [
    *("vllm_fixtures", "serve_fixtures", "engine_fixtures", "postgres_fixtures", "plain_fixtures"),
]


# `make fuzz`
settings.register_profile("fuzz", max_examples=5000, deadline=None)


@pytest.fixture(scope="session", autouse=True)
def _state_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the tests away from the store of the user who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
