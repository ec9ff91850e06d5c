"""Promise: the store keeps within its bounds, and deletes what is worth least first."""

import pytest
from observed import D, answered, outcomes, retained, scored, seen

from deployments.store import retention
from deployments.store.observations import AnswerRecord, MeanLength, Outcome, Scored
from deployments.store.retention import Retention
from deployments.store.sql import changes
from deployments.store.sql.database import Database


def test_the_least_recently_touched_are_deleted_first(database: Database) -> None:
    ids = database.write([seen(str(number)) for number in range(5)])
    database.write([answered("x", "0")])
    database.score([("x", 1.0)])
    (one,) = database.write([seen("1")])
    assert sorted(retained(database, 2)) == sorted(ids[2:])
    assert {row.id for row in database.read(ids)} == {ids[0], one}
    assert retained(database, 2, 1000) == []
    assert sorted(retained(database, None, 0)) == sorted(ids[:2])
    assert scored(database, "x", 1.0)[0] is None
    assert database.write([seen("new")])[0] not in ids


def test_queries_without_a_score_are_deleted_before_older_ones_with_one(database: Database) -> None:
    scored = database.write([seen("scored", quality=1.0)])
    unscored = database.write([seen(str(number), quality=None) for number in range(4)])
    assert sorted(retained(database, 2)) == sorted(unscored[:3])
    assert retained(database, 1) == unscored[3:]
    assert [row.id for row in database.read(scored)] == scored


def test_the_bound_holds_after_every_write(database: Database) -> None:
    database.retention = Retention(most_queries=10)
    for start in range(0, 2000, 50):
        database.write([answered(f"{n}", f"query {n}") for n in range(start, start + 50)])
        assert database.count() == len(database.ids()) == 10
    assert outcomes(database).keys() == {f"query {n}" for n in range(1990, 2000)}
    assert database.stats()["answers"] == 2000  # answers are small


def test_scored_queries_stay_but_leave_room_for_new_ones(database: Database) -> None:
    database.retention = Retention(most_queries=20)
    scored = database.write([seen(f"scored {n}", quality=1.0) for n in range(30)])
    assert database.ids() == set(scored[10:])
    for n in range(30):
        database.write([answered(f"{n}", f"new {n}")])
        assert database.count() <= 20
    # A tenth is reserved for queries whose scores may still come, and such scores count.
    assert outcomes(database).keys() == {f"scored {n}" for n in range(12, 30)} | {
        "new 28",
        "new 29",
    }
    database.score([("28", 1.0)])
    database.write([answered("30", "new 30"), answered("31", "new 31")])
    assert "new 28" in outcomes(database)
    assert database.count() == 20


def test_feedback_still_counts_for_the_policy_when_the_query_is_deleted(database: Database) -> None:
    database.retention = Retention(most_queries=10)
    database.write([answered("x", "first", predicted=0.7, policy="p")])
    database.write([seen(f"query {n}") for n in range(10)])
    database.write([answered("y", "first")])  # the same text is a new query now
    assert database.score([("x", 1.0)]) == [(None, Scored("small", 0.7, "p", None))]
    assert database.score([("x", 0.5)]) == [(None, Scored("small", 0.7, "p", 1.0))]
    assert outcomes(database)["first"]["small"] == Outcome(None, 10, 1)


def test_answers_are_bounded_too_and_the_oldest_are_deleted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_FEWEST_ANSWERS", 5)
    database.retention = Retention(most_queries=3)
    for n in range(20):
        database.write([answered(f"{n}", f"query {n}")])
        assert database.stats()["answers"] <= 5
    assert [known is not None for known in database.score([("14", 1.0), ("15", 1.0)])] == [
        False,
        True,
    ]
    database.write([AnswerRecord(f"alone {n}", "small") for n in range(7)])
    assert database.stats()["answers"] <= 5
    assert database.score([("15", 1.0)]) == [None]


def test_several_are_deleted_at_once_so_that_not_every_write_deletes(
    memory: Database, store_url: str
) -> None:
    memory.retention = Retention(most_queries=1000)
    memory.write([seen(f"query {n}") for n in range(1000)])
    deletions: list[list[int]] = []
    memory.on_deleted = deletions.append
    for n in range(100):
        memory.write([seen(f"new {n}")])
    assert memory.count() <= 1000
    assert len(deletions) <= 10


def test_a_large_excess_is_deleted_in_bounded_transactions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_AHEAD", 50)
    database.write([seen(f"query {n}") for n in range(500)])
    pieces: list[list[int]] = []
    database.on_deleted = pieces.append
    database.retention = Retention(most_queries=100)
    database.write([seen("one more")])
    assert [len(ids) for ids in pieces] == [51]
    database.enforce_bounds()
    assert database.count() == len(database.ids()) == 100
    assert max(map(len, pieces)) == 51


def test_answers_await_feedback_for_a_limited_time(database: Database) -> None:
    database.write([answered("x")])
    database.retain()
    assert database.score([("x", 1.0)]) != [None]
    retained(database, answer_hours=0)
    assert database.score([("x", 1.0)]) == [None]
    assert outcomes(database)["Why?"]["small"] == Outcome(1.0, 10, 1)


def test_lengths_go_with_the_queries_that_have_not_been_touched_for_long(store_url: str) -> None:
    database = Database(store_url, "encoder", D, identities={"small": "openai/small"})
    database.write([seen(output_tokens=70, identity="openai/small", shape="json")])
    retained(database, days=1)
    assert database.lengths() == [MeanLength("small", "json", 70, 1)]
    retained(database, days=0)
    assert database.lengths() == []
    database.close()
