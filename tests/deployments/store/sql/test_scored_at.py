"""Promise: the database knows when each outcome was scored last."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from observed import D, answered, outcomes, scored, seen
from sqlalchemy import update

from deployments.store.sql import schema
from deployments.store.sql.database import Database
from deployments.store.sql.forgetting import Selection

Clock = Callable[[float], None]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Sets the time of later transactions."""

    def set_to(now: float) -> None:
        monkeypatch.setattr(time, "time", lambda: now)

    return set_to


def scored_at(database: Database, query: str = "Why?", model: str = "small") -> float | None:
    return outcomes(database)[query][model].scored_at


def test_an_outcome_is_as_new_as_its_latest_score(database: Database, clock: Clock) -> None:
    clock(1000)
    database.write([answered("x"), answered("y")])
    assert scored_at(database) is None
    clock(2000)
    scored(database, "x", 1.0)
    assert scored_at(database) == 2000
    clock(3000)
    scored(database, "x", 0.5)
    assert scored_at(database) == 3000
    clock(4000)
    database.write([seen(output_tokens=5)])
    assert scored_at(database) == 3000
    database.write([seen(quality=1)])
    assert scored_at(database) == 4000


def test_of_several_sources_the_latest_score_counts(database: Database, clock: Clock) -> None:
    clock(5000)
    database.write([seen(source="import:a", quality=1, scored_at=3000)])
    database.write([seen(source="import:b", quality=1, scored_at=2000), seen(output_tokens=5)])
    assert scored_at(database) == 3000
    batch = database.batch([row.id for rows in database.rows() for row in rows], ["small"])
    assert batch.scored_at.tolist() == [3000]


def test_no_score_is_newer_than_when_it_was_written(database: Database, clock: Clock) -> None:
    clock(1000)
    database.write([seen(quality=1, scored_at=9000)])
    assert scored_at(database) == 1000


def test_a_score_without_a_time_is_as_old_as_the_last_change(
    database: Database, clock: Clock
) -> None:
    """A server of an earlier version that shares the store writes no time."""
    clock(1000)
    database.write([seen(quality=1), seen("Who?", output_tokens=5)])
    with database._connections.writing() as connection:
        connection.execute(update(schema.outcomes).values(scored_at=None))
    assert (scored_at(database), scored_at(database, "Who?")) == (1000, None)
    batch = database.batch([row.id for rows in database.rows() for row in rows], ["small"])
    assert sorted(batch.scored_at.tolist()) == [0, 1000]


def test_what_was_scored_before_a_time_can_be_forgotten(database: Database, clock: Clock) -> None:
    clock(5000)
    database.write([seen("old", quality=1, scored_at=1000), seen("new", quality=1)])
    clock(6000)
    database.write([seen("old", output_tokens=5)])  # asked again, but not scored
    database.forget(Selection(before=2000))
    assert outcomes(database).keys() == {"new"}


def test_a_time_that_is_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="scored_at"):
        seen(quality=1, scored_at=-1)


def test_a_merged_outcome_has_the_later_time(store_url: str, clock: Clock) -> None:
    for first, second in ((1000, 2000), (2000, 1000)):
        database = Database(store_url, "encoder", D)
        query = f"merged at {second}"
        clock(first)
        database.write([seen(query, quality=1)])
        clock(second)
        database.write([seen(query, quality=0, identity="served")])
        database.close()
        served = Database(store_url, "encoder", D, identities={"small": "served"})
        served.adopt()
        known = outcomes(served)[query]["small"]
        assert (known.quality, known.scored_at) == (0.5, 2000)
        served.close()


def test_times_are_the_same_in_arrays_and_rows(database: Database, clock: Clock) -> None:
    random = np.random.default_rng(0)
    for now in range(1000, 1100):
        clock(now)
        query, model = f"query {random.integers(20)}", str(random.choice(["small", "large"]))
        quality = 1.0 if random.random() < 0.5 else None
        database.write([seen(query, model, quality=quality, output_tokens=1)])
    (rows,) = database.rows()
    batch = database.batch([row.id for row in rows], ["small", "large"])
    told = zip(batch.rows, batch.columns, batch.scored_at, strict=True)
    assert {(rows[row].query, batch.models[column]): at for row, column, at in told} == {
        (row.query, model): known.scored_at or 0
        for row in rows
        for model, known in row.outcomes.items()
    }
