"""Promise: small values are kept between runs."""

import math

import pytest
from observed import D

from deployments.store.sql.database import Database


def test_values_are_kept_between_runs(database: Database, store_url: str) -> None:
    assert database.state.get("policies") is None
    for value in ({"0.7": 1.5, "ü": [None, True]}, [1]):
        database.state.set("policies", value)
        again = Database(store_url, "encoder", D)
        assert again.state.get("policies") == value
        again.close()
    with pytest.raises(ValueError, match="JSON"):
        database.state.set("policies", math.nan)
    with pytest.raises(ValueError, match="own"):
        database.state.set("store", {})
